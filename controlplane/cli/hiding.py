"""Keeps secrets out of what is printed, whoever brings them there: a message, the server's answer, a traceback."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

HIDDEN = "[hidden]"
SHORTEST = 6  # something shorter is no secret, and would be found inside ordinary words
TOKEN_OPTION = "--token"  # noqa: S105  (the name of an option)


class Hider:
    """Replaces what it was told is secret."""

    def __init__(self, secrets: Iterable[str]) -> None:
        pieces = {piece for secret in secrets for piece in (secret, secret.strip(), *secret.split())}
        self._pieces = sorted((piece for piece in pieces if len(piece) >= SHORTEST), key=len, reverse=True)

    def text(self, text: str) -> str:
        for piece in self._pieces:
            text = text.replace(piece, HIDDEN)
        return text

    def data(self, data: Any) -> Any:
        """The same in every text inside of JSON data."""
        if isinstance(data, str):
            return self.text(data)
        if isinstance(data, Mapping):
            return {self.text(str(key)): self.data(value) for key, value in data.items()}
        if isinstance(data, list | tuple):
            return [self.data(item) for item in data]
        return data


def secrets_of(arguments: Sequence[str], environment: Mapping[str, str]) -> list[str]:
    """The secrets that a command line and an environment hold. Also in a command line that will be refused: there a
    misplaced token would be repeated as what is wrong with it.
    """
    found = [environment.get("HEADGATE_TOKEN", "")]
    for argument, following in zip(arguments, [*arguments, ""][1:], strict=True):
        option, given, value = argument.partition("=")
        if option.startswith("--t") and TOKEN_OPTION.startswith(option):
            found.append(value if given else following)
    return found
