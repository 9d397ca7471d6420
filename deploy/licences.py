"""Lists the licence of everything that is shipped: `python -m deploy.licences`.

That is every package of requirements/app.txt that this machine installs, by its installed metadata, and every package
with files under static/vendor, by deploy/vendor.toml. Exit status 1 when a licence is unknown or not allowed by
requirements/accepted.toml.
"""

from __future__ import annotations

import re
import sys
import tomllib
from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass
from email.message import Message
from importlib.metadata import PackageNotFoundError, metadata
from typing import Any, cast

from deploy.supply import LOCKS, accepted, locked_in
from deploy.vendor import TABLE

LONGEST_NAME = 60  # of a licence; a longer text is the licence itself
# What packages write for the SPDX name, in small letters.
KNOWN_AS = {
    "apache 2.0": "Apache-2.0",
    "apache software license": "Apache-2.0",
    "bsd license": "BSD",
    "new bsd": "BSD-3-Clause",
    "3-clause bsd license": "BSD-3-Clause",
    "bsd 3-clause": "BSD-3-Clause",
    "mit license": "MIT",
    "python software foundation license": "PSF-2.0",
    "mozilla public license 2.0 (mpl 2.0)": "MPL-2.0",
}
EMPTY_WORDS = frozenset({"", "dual license", "osi approved", "unknown"})


@dataclass(frozen=True, slots=True)
class Part:
    """Something that is shipped. `licence` is an SPDX expression, "" when it is unknown."""

    name: str
    version: str
    licence: str
    origin: str


def licence_in(data: Message) -> str:
    """The licence that a package's metadata names, "" when it names none: its expression, its field, its classifiers.

    Of several classifiers all must be allowed: they do not say whether one may choose.
    """
    if data.get("License-Expression"):
        return str(data["License-Expression"]).strip()
    field = str(data.get("License") or "").strip()
    if field.lower() not in EMPTY_WORDS and len(field) <= LONGEST_NAME and "\n" not in field:
        return _spdx(field)
    classifiers = [str(value) for value in data.get_all("Classifier") or []]
    names = [value.rpartition(" :: ")[2] for value in classifiers if value.startswith("License :: ")]
    return " AND ".join(_spdx(name) for name in names if name.lower() not in EMPTY_WORDS)


def may_ship(expression: str, allowed: Collection[str]) -> bool:
    """Whether an SPDX expression is satisfied by the allowed licences. False for one that cannot be read."""
    words = re.findall(r"[()]|[^\s()]+", expression)
    try:
        value, rest = _either(words, allowed)
    except IndexError:
        return False
    return value and not rest


def shipped(stated: Mapping[str, Mapping[str, str]]) -> Iterable[Part]:
    """Everything that is shipped. A package that this machine does not install, by its marker, is not asked."""
    for package in locked_in((LOCKS / "app.txt").read_text()):
        if package.marker is not None and not package.marker.evaluate():
            continue
        try:
            # Typed as less than it is; `[]` of it warns about what is missing.
            data = cast(Message, metadata(package.name))
        except PackageNotFoundError:
            yield Part(package.name, package.version, "", "not installed here: run make setup")
            continue
        if package.name in stated:
            yield Part(package.name, package.version, stated[package.name]["licence"], "accepted.toml")
        else:
            yield Part(package.name, str(data["Version"]), licence_in(data), "its metadata")
    table: dict[str, Any] = tomllib.loads(TABLE.read_text())
    for entry in (*table["package"], {"name": table["sprite"]["package"], **table["sprite"]}):
        yield Part(entry["name"], entry["version"], entry.get("licence", ""), "static/vendor")


def main() -> int:
    licences = accepted()["licences"]
    parts = sorted(
        set(shipped(licences["stated"])), key=lambda part: (part.origin == "static/vendor", part.name)
    )
    problems = []
    for part in parts:
        print(f"{part.name:36} {part.version:18} {part.licence or 'unknown':48} {part.origin}")
        if not may_ship(part.licence, licences["allowed"]):
            problems.append(part)
    for part in problems:
        print(
            f"{part.name} {part.version}: the licence {part.licence or 'unknown'!r} is not allowed. "
            "Read it, then add it to requirements/accepted.toml, or do without the package.",
            file=sys.stderr,
        )
    print(f"{len(parts)} parts, {len(problems)} whose licence is unknown or not allowed")
    return 1 if problems else 0


def _spdx(name: str) -> str:
    """The name in SPDX's words, where it is known by another; an expression word by word."""
    parts = re.split(r"\s+(OR|AND)\s+", name)
    return " ".join(KNOWN_AS.get(part.lower().removesuffix(".").strip(), part.strip()) for part in parts)


def _either(words: list[str], allowed: Collection[str]) -> tuple[bool, list[str]]:
    value, rest = _both(words, allowed)
    while rest and rest[0].upper() == "OR":
        other, rest = _both(rest[1:], allowed)
        value = value or other
    return value, rest


def _both(words: list[str], allowed: Collection[str]) -> tuple[bool, list[str]]:
    value, rest = _one(words, allowed)
    while rest and rest[0].upper() == "AND":
        other, rest = _one(rest[1:], allowed)
        value = value and other
    return value, rest


def _one(words: list[str], allowed: Collection[str]) -> tuple[bool, list[str]]:
    if words[0] == "(":
        value, rest = _either(words[1:], allowed)
        return (value, rest[1:]) if rest[0] == ")" else (False, rest)
    return words[0] in allowed, words[1:]


if __name__ == "__main__":
    sys.exit(main())
