"""`atelier settings check`, as an operator looks at a folder before handing it out."""

from __future__ import annotations

from pathlib import Path

from tests.atelier.command import run


async def test_a_folder_is_said_to_be_good_or_what_is_wrong_with_it(tmp_path: Path) -> None:
    """Status 0, or 2 and a line for each mistake; one that is not there is a mistake."""
    (tmp_path / "groups").mkdir()
    (tmp_path / "groups" / "gpu.toml").write_text("ATELIER_MAX_BATCH = 8\n")
    good = await run("settings", "check", str(tmp_path))
    assert (good.status, good.out, good.err) == (0, "1 groups, 0 instances: nothing is wrong with them\n", "")
    (tmp_path / "base.toml").write_text('MAX_WIDTH = 1\nSECRET_KEY = "s3cret-in-the-clear-0123456789"\n')
    bad = await run("settings", "check", str(tmp_path))
    assert (bad.status, bad.out) == (2, "")
    assert [line.partition(": ")[2].partition(":")[0] for line in bad.err.splitlines()] == ["SECRET_KEY", "MAX_WIDTH"]
    assert "s3cret" not in bad.err
    assert (await run("settings", "check", str(tmp_path / "none"))).status == 2
