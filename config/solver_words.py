"""The default solver as an operator may write it: by Atelier's names, or by the words of servers that came before."""

from __future__ import annotations

from collections.abc import Mapping

# Atelier's names are ai.schedules', which this floor does not see; a test compares them.
SOLVER_NAMES = ("dpmpp_2m", "dpmpp_2m_karras", "euler", "euler_a", "ddim", "lcm")

PLAIN, KARRAS = "dpmpp_2m", "dpmpp_2m_karras"
# Where one writes these, Karras's noise levels are its server's default (USE_KARRAS).
_KARRAS_BY_DEFAULT = ("dpm++", "dpm++ 2m")
_WORDS: Mapping[str, str] = {
    **{name: name for name in SOLVER_NAMES},
    **dict.fromkeys(_KARRAS_BY_DEFAULT, PLAIN),
    "dpm++ 2m karras": KARRAS,
    "euler a": "euler_a",
    "euler_ancestral": "euler_a",
}


def known_word(word: str) -> str:
    """A word for a solver in lower case; "" for none. Raises ValueError for one that nobody uses."""
    plain = word.strip().lower()
    if plain and plain not in _WORDS:
        raise ValueError(f"must be one of {', '.join(_WORDS)}")
    return plain


def solver_of(word: str, use_karras: bool | None) -> str:
    """The solver that a known word and USE_KARRAS mean together; "" where neither says anything.

    Where only USE_KARRAS is there, its server's own solver is meant, dpm++. Raises ValueError where one contradicts the other.
    """
    if use_karras is None:
        return KARRAS if word in _KARRAS_BY_DEFAULT else _WORDS.get(word, "")
    solver = _WORDS.get(word, PLAIN)
    if solver == KARRAS and not use_karras:
        raise ValueError("USE_KARRAS=false contradicts it")
    if solver not in (PLAIN, KARRAS) and use_karras:
        raise ValueError("USE_KARRAS goes with dpm++ alone")
    return KARRAS if use_karras else solver
