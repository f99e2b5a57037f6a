"""Writes .env.example and docs/configuration.md from the settings themselves, so that neither can fall behind.

python -m config.pages
"""

from __future__ import annotations

from pathlib import Path

from pydantic.fields import FieldInfo

from config.settings import PREFIX, Settings, environment_names

ROOT = Path(__file__).resolve().parent.parent
EXAMPLE = ROOT / ".env.example"
PAGE = ROOT / "docs" / "configuration.md"


def _fields() -> list[tuple[str, FieldInfo]]:
    """Those of `Settings` itself, then those of its parts, one part after the other."""
    parts = [Settings.__annotations__, *(part.__annotations__ for part in Settings.__bases__)]

    def part(entry: tuple[str, FieldInfo]) -> int:
        return next(number for number, fields in enumerate(parts) if entry[0] in fields)

    return sorted(Settings.model_fields.items(), key=part)


def _shown(field: str) -> str:
    default = Settings.model_fields[field].default
    if default is None or default in ({}, ()):
        return ""
    if isinstance(default, tuple):
        return ",".join(entry if isinstance(entry, str) else f"{entry:g}" for entry in default)
    return str(default).lower() if isinstance(default, bool) else str(default)


def example() -> str:
    """The text of .env.example: every setting, commented out, with its reason."""
    lines = [
        "# Every setting of Atelier with its default. Take the # away in front of what you change; `make run` reads .env.",
        "",
    ]
    for field, info in _fields():
        lines += [f"# {info.description}", f"#{environment_names(field)[0]}={_shown(field)}", ""]
    return "\n".join(lines)


def page() -> str:
    """The text of docs/configuration.md."""
    lines = [
        "# Configuration",
        "",
        "Settings come from the environment, then from a `.env` file in the working folder, then from a node that hands them out",
        f"to many ([operations.md](operations.md)), then from `{PREFIX}PROFILE`, then from the defaults below. A name in the",
        "third column, which existing systems use, is taken as well; where both are set, Atelier's own wins. An unknown",
        f"`{PREFIX}` name or a value that does not fit stops the start with a message that names the variable.",
        "",
        "`OMP_WAIT_POLICY` is set to `passive` by every entry point unless you set it: OpenMP's spinning threads make small",
        "forwards many times slower beside another busy process. `CUDA_VISIBLE_DEVICES` works as everywhere.",
        "",
        "| variable | default | also | why |",
        "|---|---|---|---|",
    ]  # fmt: skip
    for field, info in _fields():
        ours, *others = environment_names(field)
        also = ", ".join(f"`{name}`" for name in others)
        default = f"`{_shown(field)}`" if _shown(field) else ""
        lines.append(f"| `{ours}` | {default} | {also} | {info.description} |")
    return "\n".join([*lines, ""])


def main() -> None:
    """Write both files."""
    EXAMPLE.write_text(example(), encoding="utf-8")
    PAGE.write_text(page(), encoding="utf-8")


if __name__ == "__main__":
    main()
