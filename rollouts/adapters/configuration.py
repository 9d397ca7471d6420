"""Reads the configuration of a cluster: everything that is wrong is found, each field named."""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from controlplane.kernel.errors import InvalidInput
from controlplane.kernel.plain import shown
from rollouts.adapters.clusters.folder import UNQUOTABLE

HIGHEST_PORT = 65_535
LONGEST_SOCKET = (
    99  # bytes: the kernel takes 107, and supervisord first binds a name that is longer by its process id
)
LONGEST_TEXT = 1_000  # characters: every process reads the rows of all clusters each second
# supervisord takes the folder of its engines' files for a pattern: with one of these it finds other files, or none.
_PATTERN = re.compile(r"[*?\[\]]")
_PORTS = re.compile(r"(\d{1,5})-(\d{1,5})", re.ASCII)


class Configuration:
    """The values of one configuration. What cannot be read is noted in `problems` and given as None."""

    def __init__(self, given: object, known: tuple[str, ...]) -> None:
        self.problems: list[InvalidInput] = []
        self._given: Mapping[Any, Any] = given if isinstance(given, Mapping) else {}
        if not isinstance(given, Mapping):
            self.note("", "The configuration is not an object.", fix="Send an object, such as {}.")
        for name in self._given:
            if name not in known:
                self.note(
                    shown(str(name)),
                    f"{shown(str(name))!r} means nothing here.",
                    fix=f"Known: {', '.join(known)}.",
                )

    def note(self, name: str, message: str, *, fix: str) -> None:
        """Notes what is wrong with a field."""
        field = f"configuration.{name}" if name else "configuration"
        self.problems.append(InvalidInput(message, field=field, fix=fix))

    def text(self, name: str, *, needed: bool = False) -> str | None:
        """A text that is not empty, and that people can see as it is."""
        value = self._given.get(name)
        if value is None and not needed:
            return None
        if not isinstance(value, str) or not value.strip():
            self.note(name, f"{name} is missing or no text.", fix=f"Give {name}.")
        elif len(value) > LONGEST_TEXT:
            self.note(name, f"{name} has more than {LONGEST_TEXT:,} characters.", fix="Shorten it.")
        elif (
            not value.isprintable()
        ):  # a line break, NUL, half a character, marks that turn the direction of writing
            self.note(
                name,
                f"{name} is {value!r}, with a character that nobody sees.",
                fix="Write it without that character.",
            )
        else:
            return value
        return None

    def path(self, name: str, *, needed: bool = False) -> Path | None:
        """An absolute path that every file of a cluster can hold."""
        value = self.text(name, needed=needed)
        if value is None:
            return None
        path = Path(value)
        # Two slashes at the front name the same file, and are kept by Path: they would be another folder to it.
        fine = path.is_absolute() and ".." not in path.parts and not value.startswith("//")
        if fine and UNQUOTABLE.search(value) is None and _PATTERN.search(value) is None:
            return path
        self.note(
            name,
            f"{name} is {value!r}: a relative path, or one with //, a space, a quote or one of ; # % * ? [ ].",
            fix="Give a plain absolute path.",
        )
        return None

    def whole(self, name: str, *, least: int, most: int, needed: bool = False) -> int | None:
        """A whole number between two bounds, both included."""
        value = self._given.get(name)
        if value is None and not needed:
            return None
        if isinstance(value, int) and not isinstance(value, bool) and least <= value <= most:
            return value
        self.note(
            name,
            f"{name} is not a whole number from {least:,} to {most:,}.",
            fix=f"Give a number such as {least}.",
        )
        return None

    def ports(self, name: str, *, needed: bool = False) -> range | None:
        """A range of ports, written `FIRST-LAST`."""
        value = self.text(name, needed=needed)
        if value is None:
            return None
        found = _PORTS.fullmatch(value)
        first, last = (int(found[1]), int(found[2])) if found else (0, 0)
        if 0 < first <= last <= HIGHEST_PORT:
            return range(first, last + 1)
        self.note(
            name, f"{name} is {value!r}, no range of ports.", fix="Write FIRST-LAST, such as 18200-18299."
        )
        return None

    def address(self, name: str) -> str | None:
        """An address that people use, http or https, without a slash at its end. In ASCII, so that no letter of a host
        only looks like another one."""
        value = self.text(name)
        if value is None:
            return None
        try:
            parts = urlsplit(value)
            fine = parts.scheme in ("http", "https") and bool(parts.hostname) and "@" not in parts.netloc
            fine = fine and not parts.query and not parts.fragment and parts.port != 0
        except ValueError:
            fine = False
        if fine and value.isascii() and " " not in value:
            return value.rstrip("/")
        self.note(
            name,
            f"{name} is {value!r}, no http address.",
            fix="Write https://HOST, in ASCII and without a user or a query.",
        )
        return None

    def socket(self, name: str, path: Path | None) -> None:
        """Notes a unix socket whose path is too long to be bound."""
        if path is not None and len(str(path).encode()) > LONGEST_SOCKET:
            self.note(
                name,
                f"The socket {path} has a path of more than {LONGEST_SOCKET} bytes.",
                fix="Choose a shorter folder.",
            )
