"""Which processes there are to be: so many alike, or by a file."""

from __future__ import annotations

from pathlib import Path

import pytest

from config.processes import BadPlan, ProcessPlan, equal_processes, read_plan


def _plan(folder: Path, text: str, role: str = "all") -> tuple[ProcessPlan, ...]:
    file = folder / "plan.toml"
    file.write_text(text, encoding="utf-8")
    return read_plan(file, role)


def test_a_plan_names_its_processes(tmp_path: Path) -> None:
    """A count makes several of one entry; a worker has no doors."""
    text = """
        [[process]]
        name = "web"
        count = 2
        role = "gateway"
        [[process]]
        name = "gpu"
        role = "worker"
        environment = { ATELIER_DEVICE = "cuda:1" }
    """
    assert _plan(tmp_path, text) == (
        ProcessPlan("web-1", True, {"ATELIER_ROLE": "gateway"}),
        ProcessPlan("web-2", True, {"ATELIER_ROLE": "gateway"}),
        ProcessPlan("gpu", False, {"ATELIER_ROLE": "worker", "ATELIER_DEVICE": "cuda:1"}),
    )


def test_an_entry_without_a_role_has_the_settings(tmp_path: Path) -> None:
    """So a worker's plan opens no door."""
    assert _plan(tmp_path, '[[process]]\nname = "gpu"', role="worker") == (ProcessPlan("gpu", False, {}),)


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("", "process: Field required"),
        ("process = []", "process: List should have at least 1 item"),
        ('[[process]]\nname = "Web Server"', "process.1.name: String should match pattern"),
        ('[[process]]\nname = "web"\ncount = 0', "process.1.count: Input should be greater than or equal to 1"),
        ('[[process]]\nname = "web"\nrole = "boss"', "process.1.role: Input should be 'all', 'gateway' or 'worker'"),
        ('[[process]]\nname = "web"\ncuont = 2', "process.1.cuont: Extra inputs are not permitted"),
        (
            '[[process]]\nname = "web"\nenvironment = { PORT = 1 }',
            "process.1.environment.PORT: Input should be a valid",
        ),
        ('[[process]]\nname = "web"\n[[process]]\nname = "web"', "process.name: web stands twice"),
        ('[[process]]\nname = "web"\ncount = 250\n[[process]]\nname = "gpu"\ncount = 7', "process.count: 257 in all"),
        ("[[process", "Expected"),
        ("é", "Invalid"),
    ],
)
def test_a_bad_plan_is_refused_with_its_entry_and_key(tmp_path: Path, text: str, told: str) -> None:
    """Before anything is started."""
    with pytest.raises(BadPlan) as refused:
        _plan(tmp_path, text)
    assert told in str(refused.value)
    assert "plan.toml" in str(refused.value)


def test_a_plan_that_is_not_there_is_told(tmp_path: Path) -> None:
    """By its path."""
    with pytest.raises(BadPlan, match=r"plan\.toml: No such file"):
        read_plan(tmp_path / "plan.toml", "all")


def test_equal_processes_share_devices_in_turns() -> None:
    """Of one device all have that; of several, each one."""
    several = equal_processes(3, ("cuda:0", "cuda:1"), 0)
    assert [plan.environment for plan in several] == [
        {"ATELIER_DEVICES": "cuda:0"}, {"ATELIER_DEVICES": "cuda:1"}, {"ATELIER_DEVICES": "cuda:0"},
    ]  # fmt: skip
    assert [plan.name for plan in several] == ["1", "2", "3"]
    alone = equal_processes(2, ("cpu",), 4)
    assert [plan.environment for plan in alone] == [{"ATELIER_TORCH_THREADS": "4"}] * 2
