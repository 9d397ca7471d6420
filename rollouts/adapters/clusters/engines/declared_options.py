"""Options as the operator declares them in JSON, read into the domain's. Every mistake is a ValueError in words."""

from __future__ import annotations

import re
from typing import Any

from controlplane.kernel.credentials import names_a_credential
from rollouts.domain.engine_options import (
    ARGUMENT_KINDS,
    ARGUMENT_NAME,
    FIELD_KINDS,
    LARGEST,
    VARIABLE_KINDS,
    Option,
    OptionKind,
)

COMMON = frozenset({"kind", "help"})
IN_THE_OPEN = (
    "cannot be a secret: every user of a machine can read command lines; let the engine read a variable"
)
PARTS = {
    OptionKind.INTEGER: frozenset({"least", "most"}),
    OptionKind.NUMBER: frozenset({"least", "most"}),
    OptionKind.SIZE: frozenset({"least", "most"}),
    OptionKind.WORD: frozenset({"choices"}),
    OptionKind.TEXT: frozenset({"pattern"}),
    OptionKind.FLAG: frozenset(),
    OptionKind.FILE: frozenset({"choices"}),
    OptionKind.OBJECT: frozenset({"fields"}),
    OptionKind.SECRET: frozenset({"pattern"}),
}


def read_options(values: Any, *, of: str, variables: bool = False) -> tuple[Option, ...]:
    """The options of an object by name. `of` says whose they are: "arguments of engine 'x'"."""
    if not isinstance(values, dict):
        raise ValueError(f"{of} must be an object of options by name")
    allowed = VARIABLE_KINDS if variables else ARGUMENT_KINDS
    for name in values:
        if not variables and not ARGUMENT_NAME.fullmatch(name):
            raise ValueError(f"{name!r} in {of} is no argument's name; write it as max-model-len")
    return tuple(_option(name, value, f"{name!r} in {of}", allowed) for name, value in values.items())


def _option(name: str, values: Any, what: str, allowed: frozenset[OptionKind]) -> Option:
    if not isinstance(values, dict) or not isinstance(values.get("kind"), str):
        raise ValueError(f"{what} needs a kind, one of {', '.join(sorted(allowed))}")
    if values["kind"] == OptionKind.SECRET and OptionKind.SECRET not in allowed:
        raise ValueError(f"{what} {IN_THE_OPEN}")
    if values["kind"] not in allowed:
        raise ValueError(
            f"{what} cannot be of the kind {values['kind']!r}, only {', '.join(sorted(allowed))}"
        )
    kind = OptionKind(values["kind"])
    if kind is OptionKind.TEXT and names_a_credential(name):
        if OptionKind.SECRET not in allowed:
            raise ValueError(f"{what} is named like a credential, and {IN_THE_OPEN}")
        # Taken for what its name says: nothing that runs breaks, and nothing is shown that should not be.
        kind = OptionKind.SECRET
    known = COMMON | PARTS[kind]
    if not set(values) <= known:
        raise ValueError(f"{what} may have only {', '.join(sorted(known))}")
    if not isinstance(values.get("help"), str) or not values["help"].strip():
        raise ValueError(f"{what} needs help, a sentence that says what it does")
    least, most = values.get("least", 0), values.get("most", LARGEST)
    if not (_is_number(least) and _is_number(most) and least <= most):
        raise ValueError(f"least and most of {what} must be numbers, least not above most")
    fields = values.get("fields", {})
    if kind is OptionKind.OBJECT and (not isinstance(fields, dict) or not fields):
        raise ValueError(f"{what} needs fields, an object of options by name")
    return Option(
        name,
        kind,
        values["help"].strip(),
        least,
        most,
        _choices(values.get("choices", []), what, needed=kind is OptionKind.WORD),
        _pattern(values.get("pattern", ""), what, needed=kind is OptionKind.TEXT),
        tuple(_option(key, value, f"{key!r} of {what}", FIELD_KINDS) for key, value in fields.items()),
    )


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and abs(value) <= LARGEST


def _choices(values: Any, what: str, *, needed: bool) -> tuple[str, ...]:
    fine = isinstance(values, list) and all(isinstance(value, str) and value for value in values)
    if not fine or (needed and not values):
        raise ValueError(f"{what} needs choices, a list of texts")
    return tuple(values)


def _pattern(value: Any, what: str, *, needed: bool) -> str:
    if not isinstance(value, str) or (needed and not value):
        raise ValueError(f"{what} needs a pattern, a regular expression")
    try:
        re.compile(value)
    except re.error as error:
        raise ValueError(f"the pattern of {what} is no regular expression: {error}") from error
    return value
