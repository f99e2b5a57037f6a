"""The default solver, in Atelier's words and in those of servers that came before."""

from __future__ import annotations

import pytest

from ai.schedules import SOLVERS
from config import SettingsError, load_settings
from config.solver_words import SOLVER_NAMES, known_word, solver_of


def test_the_names_are_the_engine_s() -> None:
    """All of them, each meaning itself."""
    assert SOLVER_NAMES == SOLVERS
    assert [solver_of(known_word(name), None) for name in SOLVERS] == list(SOLVERS)


@pytest.mark.parametrize(
    ("word", "use_karras", "solver"),
    [
        ("", None, ""),
        ("", True, "dpmpp_2m_karras"),
        ("", False, "dpmpp_2m"),
        ("dpm++", None, "dpmpp_2m_karras"),
        ("dpm++", True, "dpmpp_2m_karras"),
        ("dpm++", False, "dpmpp_2m"),
        (" DPM++ 2M ", None, "dpmpp_2m_karras"),
        ("DPM++ 2M Karras", None, "dpmpp_2m_karras"),
        ("dpmpp_2m", None, "dpmpp_2m"),
        ("dpmpp_2m", True, "dpmpp_2m_karras"),
        ("dpmpp_2m_karras", True, "dpmpp_2m_karras"),
        ("Euler a", None, "euler_a"),
        ("euler_ancestral", False, "euler_a"),
    ],
)
def test_what_the_words_mean(word: str, use_karras: bool | None, solver: str) -> None:
    """dpm++ has Karras's noise levels unless they are switched off; nothing said is no solver."""
    assert solver_of(known_word(word), use_karras) == solver


@pytest.mark.parametrize(
    ("word", "use_karras", "problem"),
    [
        ("euler", "true", "euler: USE_KARRAS goes with dpm.. alone"),
        ("dpmpp_2m_karras", "false", "dpmpp_2m_karras: USE_KARRAS=false contradicts it"),
    ],
)
def test_words_that_contradict_each_other_stop_the_start(
    word: str, use_karras: str, problem: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """With both variables named."""
    monkeypatch.setenv("SCHEDULER_TYPE", word)
    monkeypatch.setenv("USE_KARRAS", use_karras)
    with pytest.raises(SettingsError, match=f"SCHEDULER_TYPE: {problem}"):
        load_settings()
