"""How numbers and promises are written: in one place, and no promise that is larger than its proof."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
HOME = "controlplane/kernel/words.py"
ROOMS = ("controlplane", "registry", "rollouts")
DATES = re.compile(r"%[YmdHMSbazyj]")


def sources() -> Iterator[tuple[str, ast.Module]]:
    for room in ROOMS:
        for path in sorted((ROOT / room).rglob("*.py")):
            name = path.relative_to(ROOT).as_posix()
            if "/migrations/" not in name:
                yield name, ast.parse(path.read_text())


def percents(tree: ast.AST) -> Iterator[int]:
    """The lines that write a percentage themselves: `{x}%`, or a format such as `{x:.1%}`."""
    for node in ast.walk(tree):
        if not isinstance(node, ast.JoinedStr):
            continue
        for one, after in zip(node.values, [*node.values[1:], None], strict=True):
            if not isinstance(one, ast.FormattedValue):
                continue
            spec = "" if one.format_spec is None else DATES.sub("", ast.unparse(one.format_spec))
            follows = isinstance(after, ast.Constant) and re.match(r"\s?%", str(after.value))
            if "%" in spec or follows:
                yield node.lineno


def test_percent__outside_the_home_of_units__is_nowhere_written() -> None:
    found = [f"{name}:{line}" for name, tree in sources() if name != HOME for line in percents(tree)]
    assert not found, f"{found} write percent: {HOME} has a function for it"


@pytest.mark.parametrize("text", ['f"{x:.1%}"', 'f"{x:.0f}% of"', 'f"{x} %"'])
def test_percents__each_way_to_write_one__is_seen(text: str) -> None:
    assert list(percents(ast.parse(text)))


def test_percents__date__is_none() -> None:
    assert not list(percents(ast.parse('f"{at:%H:%M} and {at:%Y-%m-%d}"')))


# What holds with a probability only. A claim that it is never so is untrue, however small the probability is.
BOUNDED = re.compile(
    r"\b(ties?|tied|winner|false alarms?|by mistake|rolled back by the gates)\b", re.IGNORECASE
)
ABSOLUTE = re.compile(r"\b(never|always|only when it is|can only|impossible|guaranteed)\b", re.IGNORECASE)
PAGES = ("README.md", "docs/guide.md", "docs/statistics.md", "docs/api.md", "docs/cli.md")


def too_sure(text: str) -> list[str]:
    """The sentences that promise for certain what holds with a probability."""
    sentences = re.split(r"(?<=[.;:!?])\s+|\n\n", text)
    return [one for one in sentences if BOUNDED.search(one) and ABSOLUTE.search(one)]


def said_to_people() -> Iterator[tuple[str, str]]:
    """(where, text) of sentences in the program, templates and the pages for users."""
    for name, tree in sources():
        for node in ast.walk(tree):
            if isinstance(node, ast.JoinedStr):
                yield (
                    name,
                    "".join(str(one.value) if isinstance(one, ast.Constant) else "x" for one in node.values),
                )
            elif isinstance(node, ast.Constant) and isinstance(node.value, str):
                yield name, node.value
    for path in sorted((ROOT / "templates").rglob("*.html")):
        yield path.relative_to(ROOT).as_posix(), re.sub(r"<[^>]*>|\{%.*?%\}", " ", path.read_text())
    for name in PAGES:
        yield name, (ROOT / name).read_text()


def test_what_holds_with_a_probability__is_nowhere_promised_for_certain() -> None:
    found = [(name, sentence) for name, text in said_to_people() for sentence in too_sure(text)]
    assert not found


def test_too_sure__sentence_of_then__is_found() -> None:
    assert too_sure("If the arms are equal it ends as a tie. A tie is never called a winner.") == [
        "A tie is never called a winner."
    ]
