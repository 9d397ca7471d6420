"""Every command that a text of Headgate names: in pages, messages, templates, the Makefile and docstrings."""

from __future__ import annotations

import ast
import html
import re
import shlex
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
ROOMS = ("controlplane", "registry", "rollouts", "deploy", "benchmarks", "docs")
PLACEHOLDER = "X"  # what a message fills in
STARTS = ("make", "manage.py", "headgate", "apt-get", "python3", "python", "uv")
AFTER_COMMAND = {"|", "||", "&&", ";", ">", ">>", "<", "&"}

# A command stands in backticks, after a colon or in brackets, or is all that a message says.
_MARKED = re.compile(r"`([^`\n]+)`")
_SPOKEN = re.compile(
    r"(?:^|(?<=[:(] )|(?<=\()|(?<=[Rr]un )|(?<=with )|(?<=use )|(?<=of ))"
    r"((?:make|manage\.py|headgate|apt-get|python3 -m|uv (?=cache|python)) ?[a-z](?:[^;.,)<\n\x22]|[.,](?=\w))*)"
)
_FENCE = re.compile(r"^```sh\n(.*?)^```", re.MULTILINE | re.DOTALL)
_CODE = re.compile(r'<pre class="code"[^>]*>(.*?)</pre>|<span class="mono">(headgate .*?)</span>', re.DOTALL)


@dataclass(frozen=True)
class Named:
    """A command as a text names it. `exact` when the text marks where it ends: then its arguments must fit too."""

    place: str
    words: tuple[str, ...]
    exact: bool

    def __str__(self) -> str:
        return f"{self.place}: {shlex.join(self.words)}"


def named_commands() -> list[Named]:
    """All of them, in the order of the files."""
    found: list[Named] = []
    for page in (ROOT / "README.md", *sorted((ROOT / "docs").rglob("*.md"))):
        found += _in_markdown(page.read_text(), str(page.relative_to(ROOT)))
    for room in ROOMS:
        for file in sorted((ROOT / room).rglob("*.py")):
            if "migrations" not in file.parts:
                found += _in_python(file)
    found += _in_python(ROOT / "tests" / "conftest.py")
    for file in sorted((ROOT / "templates").rglob("*.html")):
        found += _in_template(file)
    found += _in_text((ROOT / "Makefile").read_text().replace("\t", " "), "Makefile")
    return found


def texts(file: Path) -> Iterator[tuple[int, str]]:
    """Every string of a Python file with its line; what an f-string fills in is a placeholder."""
    tree = ast.parse(file.read_text())
    inside = {id(part) for node in ast.walk(tree) if isinstance(node, ast.JoinedStr) for part in node.values}
    for node in ast.walk(tree):
        if isinstance(node, ast.JoinedStr):
            parts = [part.value if isinstance(part, ast.Constant) else PLACEHOLDER for part in node.values]
            yield node.lineno, "".join(str(part) for part in parts)
        elif isinstance(node, ast.Constant) and isinstance(node.value, str) and id(node) not in inside:
            yield node.lineno, node.value


def _in_python(file: Path) -> list[Named]:
    place = file.relative_to(ROOT)
    return [one for line, text in texts(file) for one in _in_text(text, f"{place}:{line}")]


def _in_text(text: str, place: str) -> list[Named]:
    marked = [_command(code, place, exact=True) for code in _MARKED.findall(text)]
    bare = _MARKED.sub("", text)
    spoken = [_command(said.strip(), place, exact=False) for said in _SPOKEN.findall(bare)]
    return [one for one in (*marked, *spoken) if one]


def _in_markdown(text: str, place: str) -> list[Named]:
    lines = [line for block in _FENCE.findall(text) for line in block.replace("\\\n", " ").splitlines()]
    prose = re.sub(r"^```.*?^```", "", text, flags=re.MULTILINE | re.DOTALL)
    codes = [*lines, *_MARKED.findall(prose)]
    return [one for one in (_command(code, place, exact=True) for code in codes) if one]


def _in_template(file: Path) -> list[Named]:
    text = re.sub(r"\{\{.*?\}\}", PLACEHOLDER, file.read_text())
    codes = [html.unescape(a or b) for a, b in _CODE.findall(text)]
    place = str(file.relative_to(ROOT))
    lines = [line for code in codes for line in code.replace("\\\n", " ").splitlines()]
    return [one for one in (_command(line, place, exact=True) for line in lines) if one]


def _command(text: str, place: str, *, exact: bool) -> Named | None:
    """The command that `text` is, or None. Optional parts are taken as given; a comment and what follows a pipe is not
    part of it."""
    try:
        words = shlex.split(text.replace("[", "").replace("]", ""), comments=True)
    except ValueError:
        return None
    for at, word in enumerate(words):
        if word in AFTER_COMMAND:
            words = words[:at]
            break
    if words and words[0].endswith("python") and words[0] != "python":
        words[0] = "python"  # of an environment
    if words[:2] == ["python", "manage.py"]:
        words = words[1:]
    if len(words) < 2 or words[0] not in STARTS:
        return None
    return Named(place, tuple(words), exact)
