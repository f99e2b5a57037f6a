"""What classes say of themselves, asked in real processes."""

from __future__ import annotations

import logging
import os
import sys
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

from ai.custom.cards import ClassPath, CustomCard
from ai.custom.code_files import MOST, code_files
from ai.custom.describing import Terms, describe
from ai.custom.launching import environment
from tests.ai.custom.hosted import ODD

TERMS = Terms(memory_limit=200_000_000, seconds=30.0, environment=environment(os.environ))


@pytest.fixture(scope="module")
def cards() -> dict[str, CustomCard]:
    """Of several at once."""
    names = ["Echo", "Stored", "Coroutine", "Unannotated", "Mistyped", "Limitless", "Predictless", "not_a_class"]
    names += ["Misspelt", "Uncounted", "Free", "Counted"]
    paths = {name: ClassPath.read(f"{ODD}:{name}") for name in names}
    paths |= {"nowhere": ClassPath.read("nowhere.at.all:Class")}
    return {card.name: card for card in describe(paths, TERMS)}


def test_a_class_says_what_it_is_and_takes(cards: dict[str, CustomCard]) -> None:
    """Its first paragraph, its inputs, its type and limits."""
    echo = cards["Echo"]
    assert (echo.problem, echo.model_type, echo.description) == ("", "custom", "Says it again.")
    assert list(echo.input_schema) == ["text", "times", "voice"]
    assert echo.input_schema["times"] == {
        "type": "integer", "minimum": 1, "maximum": 5, "default": 1, "description": "How often.",
    }  # fmt: skip
    assert cards["Stored"].memory == 50_000_000
    assert (echo.repeatable, echo.cost, echo.code) == (False, None, ())
    assert (cards["Stored"].repeatable, cards["Stored"].cost) == (True, 2.5)
    assert (cards["Counted"].cost, cards["Counted"].cost_by) == (2.0, {"times": 0.5})


@pytest.mark.parametrize(
    ("name", "said"),
    [
        ("Coroutine", "predict: is a coroutine"),
        ("Unannotated", "predict: text: has no annotation"),
        ("Mistyped", "model_type: 'astrology' is none of custom, "),
        ("Limitless", "predict_seconds: -1 is no number above 0"),
        ("Misspelt", "cost: 'time' is none of times"),
        ("Uncounted", "cost: image is neither a number nor a text nor a list"),
        ("Free", "cost: times: 0 is no number above 0"),
        ("Predictless", "Predictless has no method predict"),
        ("not_a_class", "has no class not_a_class"),
        ("nowhere", "ModuleNotFoundError: No module named 'nowhere'"),
    ],
)
def test_a_class_that_cannot_be_used_has_a_card_that_says_why(
    cards: dict[str, CustomCard], name: str, said: str
) -> None:
    """In one line, with its path."""
    problem = cards[name].problem
    assert problem.startswith(f"{cards[name].path}: ")
    assert said in problem
    assert "\n" not in problem


@pytest.mark.parametrize(
    ("source", "said"),
    [
        ("import os; os._exit(3)", "importing it: its process ended (exit status 3)"),
        ("import time; time.sleep(60)", "importing it took more than 3 s"),
        ("x = []\nwhile True: x.append(bytearray(b'x' * 10_000_000))", "importing it: its process took"),
        (
            "import os\nfor n in range(3, 256):\n  try: os.write(n, b'\\xff' * 64)\n  except OSError: pass",
            "something else",
        ),
    ],
)
def test_a_module_that_does_wrong_when_it_is_imported(
    tmp_path: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture,
    source: str, said: str,
) -> None:  # fmt: skip
    """It harms its own process alone, and its card says how it went; the log has it too."""
    (tmp_path / "harmful.py").write_text(source)  # type: ignore[operator]
    monkeypatch.syspath_prepend(tmp_path)
    terms = Terms(memory_limit=150_000_000, seconds=3.0, environment=TERMS.environment)
    with caplog.at_level(logging.ERROR):
        (card,) = describe({"harmful": ClassPath.read("harmful:Class")}, terms)
    assert said in card.problem
    assert card.problem in caplog.text


MODEL = "class {name}:\n    repeatable = True\n\n    def predict(self, word: str) -> str:\n        return word\n"


def test_a_repeatable_class_says_which_files_it_may_run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """All of its package, or all beside it with the packages there, also what it imports only when it is called."""
    files = {
        "one.py": MODEL.format(name="One"),
        "beside.py": "",
        "near/__init__.py": "",
        "near/inner/__init__.py": "",
        "near/inner/late.py": "",
        "near/notes.txt": "",
        "other/no_package.py": "",
        "shop/__init__.py": "",
        "shop/models/two.py": f"from shop import words\n{MODEL.format(name='Two')}",
        "shop/words.py": "",
        "again.py": "from shop.models.two import Two\n",
    }
    for name, text in files.items():
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text(text)
    monkeypatch.syspath_prepend(tmp_path)
    paths = {name: ClassPath.read(name) for name in ("one:One", "shop.models.two:Two", "again:Two")}
    one, two, again = ({str(Path(path).relative_to(tmp_path)) for path in card.code} for card in describe(paths, TERMS))
    assert two == {"shop/__init__.py", "shop/models/two.py", "shop/words.py"}
    assert one == again == {name for name in files if name.endswith(".py") and not name.startswith("other")}


def test_a_class_among_too_many_files_says_none(monkeypatch: pytest.MonkeyPatch) -> None:
    """Nor does one that is in no file; then none of its answers is given again."""
    assert code_files(["tests.ai.custom.hosted"], most=5) == ()
    assert len(code_files(["tests.ai.custom.hosted"], most=10_000)) > 5
    monkeypatch.setitem(sys.modules, "made_up", ModuleType("made_up"))
    assert code_files(["made_up"]) == code_files(["never_imported"]) == ()


def test_a_class_among_too_many_entries_says_none(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Files of any kind, and folders: whoever keeps a million weights beside the code does not have them all looked at."""
    seen: list[str] = []
    scandir = os.scandir

    def noted(folder: str) -> Any:
        seen.append(os.path.basename(folder))
        return scandir(folder)

    package = tmp_path / "atop"
    for number in range(20):
        (package / "weights" / f"{number}").mkdir(parents=True)
        (package / "weights" / f"{number}.bin").touch()
    (package / "__init__.py").touch()
    module = ModuleType("atop")
    module.__file__, module.__path__ = str(package / "__init__.py"), [str(package)]
    monkeypatch.setitem(sys.modules, "atop", module)
    assert code_files(["atop"], most_entries=42) == (str(package / "__init__.py"),)
    assert code_files(["atop"], most_entries=41) == ()
    monkeypatch.setattr(os, "scandir", noted)
    assert code_files(["atop"], most_entries=10) == ()
    assert seen == ["atop", "weights"]


def test_a_class_whose_own_file_is_not_found_says_none(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """It was loaded from elsewhere than where its package says it is: the files there are not what it runs."""
    (tmp_path / "split").mkdir()
    (tmp_path / "split" / "__init__.py").touch()
    top, inner = ModuleType("split"), ModuleType("split.inner")
    top.__file__, top.__path__ = str(tmp_path / "split" / "__init__.py"), [str(tmp_path / "split")]
    monkeypatch.setitem(sys.modules, "split", top)
    monkeypatch.setitem(sys.modules, "split.inner", inner)
    assert code_files(["split"]) == (top.__file__,)
    inner.__file__ = str(tmp_path / "inner.py")
    assert code_files(["split.inner"]) == ()


def test_a_repeatable_class_that_is_never_answered_as_before_is_logged(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """Once, when it is asked what it takes; nobody would know else why nothing is."""
    (tmp_path / "many.py").write_text(MODEL.format(name="Many"))
    for number in range(MOST):
        (tmp_path / f"beside_{number}.py").touch()
    monkeypatch.syspath_prepend(tmp_path)
    with caplog.at_level(logging.WARNING):
        (card,) = describe({"many": ClassPath.read("many:Many")}, TERMS)
    assert (card.problem, card.repeatable, card.code) == ("", True, ())
    assert [record.getMessage().partition(",")[0] for record in caplog.records] == [
        "custom model many says that it is repeatable"
    ]


@pytest.mark.parametrize("text", ["", "module", "module:", ":Class", "a.b.c", "a-b:C", "a:b:c", "a:B@", "/a/b:C"])
def test_an_import_path_that_is_none(text: str) -> None:
    """Is seen without importing anything."""
    with pytest.raises(ValueError, match=r"is no package\.module:Class"):
        ClassPath.read(text)


def test_an_import_path_with_an_argument() -> None:
    """All after the @ is one argument."""
    assert ClassPath.read("a.b:C@/models/x@y") == ClassPath("a.b", "C", "/models/x@y")
    assert str(ClassPath.read("a.b:C@/models/x@y")) == "a.b:C@/models/x@y"
