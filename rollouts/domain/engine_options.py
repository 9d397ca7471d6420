"""What a serving spec may set of an engine: a closed list of typed options. Everything else is refused.

An option is an argument of the engine's command line or a variable of its environment. The engine's template declares
the list, so a spec can choose among what was thought of and never bring code, a file or an address of its own.
"""

from __future__ import annotations

import difflib
import math
import re
from collections.abc import Collection, Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from pathlib import PurePosixPath
from typing import Any

from controlplane.kernel.credentials import HIDDEN, SHORTEST, is_like_a_credential
from controlplane.kernel.errors import InvalidInput
from controlplane.kernel.plain import is_plain_text
from rollouts.domain.secrets import SECRETS, Secret

LARGEST = 2**53 - 1  # every JSON reader keeps whole numbers up to here
LONGEST_TEXT = 500
LONGEST_SECRET = 16_000  # characters: a private key with its chain of certificates
LONGEST_NAME = 80
ARGUMENT_NAME = re.compile(r"[a-z0-9][a-z0-9.-]*")
VARIABLE_NAME = re.compile(r"[A-Za-z_][A-Za-z0-9_]*")
WHOLE = re.compile(r"-?[0-9]{1,16}")
DECIMAL = re.compile(r"-?[0-9]{1,16}(\.[0-9]{1,16})?([eE][+-]?[0-9]{1,3})?")
SIZE = re.compile(r"([0-9]{1,16})([KMGT])?(?:iB)?")
UNITS = {None: 1, "K": 2**10, "M": 2**20, "G": 2**30, "T": 2**40}


class OptionKind(StrEnum):
    """What an option's value is."""

    INTEGER = "integer"
    NUMBER = "number"
    SIZE = "size"  # bytes: a whole number, or one with K, M, G or T (powers of 1024)
    WORD = "word"  # one of `choices`
    TEXT = "text"  # it matches `pattern` from beginning to end
    FLAG = "flag"  # true or false
    FILE = "file"  # a file of the version, by its path in the manifest; it ends in one of `choices`
    OBJECT = "object"  # only `fields`, each an option of its own
    SECRET = "secret"  # noqa: S105 - a credential: stored encrypted or by reference, and never shown


VARIABLE_KINDS = frozenset(
    {
        OptionKind.INTEGER,
        OptionKind.NUMBER,
        OptionKind.SIZE,
        OptionKind.WORD,
        OptionKind.TEXT,
        OptionKind.SECRET,
    }
)
# A secret is never an argument: every user of a machine can read the command lines of all its processes.
ARGUMENT_KINDS = frozenset(OptionKind) - {OptionKind.SECRET}
FIELD_KINDS = ARGUMENT_KINDS - {OptionKind.FILE, OptionKind.OBJECT}


@dataclass(frozen=True, slots=True)
class Option:
    """One thing that may be set.

    name         without dashes before it; of a variable as the environment has it
    help         a sentence: what it does
    least, most  of a number; of a size in bytes
    choices      of a word; of a file the endings that it may have (none: any)
    pattern      of a text, a regular expression; of a secret likewise, empty for any text
    fields       of an object
    """

    name: str
    kind: OptionKind
    help: str
    least: float = 0
    most: float = LARGEST
    choices: tuple[str, ...] = ()
    pattern: str = ""
    fields: tuple[Option, ...] = ()

    @property
    def wanted(self) -> str:
        """What may be written, for people: "a whole number from 1 to 64"."""
        bounds = f"from {_number(self.least)} to {_number(self.most)}"
        if self.kind is OptionKind.INTEGER:
            return f"a whole number {bounds}"
        if self.kind is OptionKind.NUMBER:
            return f"a number {bounds}"
        if self.kind is OptionKind.SIZE:
            return f"bytes {bounds}: a whole number, or one with K, M, G or T behind it, such as 4G"
        if self.kind is OptionKind.WORD:
            return f"one of {', '.join(self.choices)}"
        if self.kind is OptionKind.TEXT:
            return f"a text that matches {self.pattern}"
        if self.kind is OptionKind.FLAG:
            return "true or false"
        if self.kind is OptionKind.SECRET:
            matching = f" that matches {self.pattern}" if self.pattern else ""
            return (
                f"a text{matching} of {SHORTEST} to {LONGEST_SECRET} characters, or a reference to a secret"
            )
        if self.kind is OptionKind.FILE:
            ending = f" that ends in {' or '.join(self.choices)}" if self.choices else ""
            return f"the path of a file of the version{ending}, as its manifest has it"
        return f"an object with some of {', '.join(one.name for one in self.fields)}"

    def read(self, value: object, *, where: str, files: Collection[str] | None = None) -> Any:
        """The value in the one form that engines get: a size is bytes, a number given as text a number.

        where   the field that a refusal names
        files   paths of the version's files; None: not known here, so a file is only checked for its form

        Raises InvalidInput. The value is not repeated in it: it may be a secret that was put in the wrong place.
        """
        found = self._understood(value, where, files)
        if found is None:
            raise self._refusal(where)
        return found

    def _refusal(self, where: str, told: str = "") -> InvalidInput:
        return InvalidInput(
            told or f"{self.name} cannot have this value.",
            field=where,
            fix=f"Write {self.wanted}.",
            code="option-value",
        )

    def _understood(self, value: object, where: str, files: Collection[str] | None) -> Any:
        """None: it cannot be understood."""
        if self.kind is OptionKind.OBJECT:
            return self._object(value, where)
        if self.kind is OptionKind.SECRET or isinstance(value, SECRETS):
            return self._secret(value, where)
        if self.kind is OptionKind.FLAG or isinstance(value, bool):
            return value if self.kind is OptionKind.FLAG and isinstance(value, bool) else None
        if isinstance(value, int | float) and self.kind in (OptionKind.WORD, OptionKind.TEXT):
            value = _number(value) if math.isfinite(value) and abs(value) <= LARGEST else None
        match self.kind:
            case OptionKind.INTEGER:
                number = int(value) if isinstance(value, str) and WHOLE.fullmatch(value) else value
                return number if isinstance(number, int) and self.least <= number <= self.most else None
            case OptionKind.NUMBER:
                number = float(value) if isinstance(value, str) and DECIMAL.fullmatch(value) else value
                # A comparison with what is no number is false.
                fits = isinstance(number, int | float) and self.least <= number <= self.most
                return number if fits else None
            case OptionKind.SIZE:
                return self._size(value)
        if not isinstance(value, str) or len(value) > LONGEST_TEXT or not value.isprintable():
            return None
        match self.kind:
            case OptionKind.WORD:
                return value if value in self.choices else None
            case OptionKind.TEXT:
                return self._text(value, where)
            case _:
                return self._file(value, where, files)

    def _text(self, value: str, where: str) -> str | None:
        if is_like_a_credential(value):
            # Refused rather than hidden: whoever reads the declaration must be able to rely on it.
            raise InvalidInput(
                f"The value of {self.name} looks like a credential, and {self.name} is no secret: it would be shown.",
                field=where,
                fix="Give credentials by a variable that the engine declares as a secret; the operator adds one in"
                " engines.json with the kind secret.",
                code="credential-in-the-open",
            )
        return value if re.fullmatch(self.pattern, value) else None

    def _secret(self, value: object, where: str) -> str | Secret | None:
        if isinstance(value, SECRETS):
            if self.kind is not OptionKind.SECRET:
                raise self._refusal(where, f"{self.name} is no secret: its value is shown.")
            return value
        if not isinstance(value, str) or not SHORTEST <= len(value) <= LONGEST_SECRET:
            return None
        if not is_plain_text(value):
            return None
        return value if not self.pattern or re.fullmatch(self.pattern, value) else None

    def _size(self, value: object) -> int | None:
        if isinstance(value, str):
            found = SIZE.fullmatch(value)
            if found is None:
                return None
            value = int(found[1]) * UNITS[found[2]]
        return value if isinstance(value, int) and self.least <= value <= self.most else None

    def _file(self, value: str, where: str, files: Collection[str] | None) -> str | None:
        path = PurePosixPath(value)
        inside = not path.is_absolute() and ".." not in path.parts and path.as_posix() == value != "."
        if not inside or (self.choices and not value.endswith(self.choices)):
            return None
        if files is not None and value not in files:
            raise self._refusal(where, f"{self.name} names a file that the version's manifest does not have.")
        return value

    def _object(self, value: object, where: str) -> dict[str, Any] | None:
        if not isinstance(value, Mapping) or not value:
            return None
        known = {one.name: one for one in self.fields}
        found: dict[str, Any] = {}
        for name in sorted(value, key=str):
            inner = known.get(name)
            if inner is None:
                raise self._refusal(where, f"{_shown(name)} is no part of {self.name}.")
            found[inner.name] = inner.read(value[name], where=f"{where}.{inner.name}")
        return found


@dataclass(frozen=True, slots=True)
class Chosen:
    """What a spec chose, checked. Names are as the engine has them; values as `Option.read` gives them.

    `secrets` are of the variables those that are secret: the value as it was sent, or where it is.
    """

    arguments: Mapping[str, Any] = field(default_factory=dict)
    variables: Mapping[str, str] = field(default_factory=dict)
    secrets: Mapping[str, str | Secret] = field(default_factory=dict, repr=False)


@dataclass(frozen=True, slots=True)
class EngineOptions:
    """All that a serving spec may set of an engine.

    passed_on   variables that the engine takes over from the cluster's own environment, where it has them
    widened     what the operator added to the engine as we bring it, such as "argument hf-overrides"
    """

    engine: str
    arguments: tuple[Option, ...] = ()
    variables: tuple[Option, ...] = ()
    passed_on: tuple[str, ...] = ()
    widened: tuple[str, ...] = ()

    def choose(
        self,
        arguments: Mapping[str, Any],
        environment: Mapping[str, Any],
        *,
        files: Collection[str] | None = None,
        prefix: str = "",
    ) -> Chosen:
        """What a spec sets, checked; an argument's name may have underscores for dashes.

        files   paths in the manifest of the version that is to be served; None: not known here
        prefix  before the field that a refusal names: "serving." gives "serving.arguments.dtype"

        Raises InvalidInput for the first option that is not declared, is named twice or has an impossible value.
        """
        known = {option.name: option for option in self.arguments}
        chosen: dict[str, Any] = {}
        for name in sorted(arguments, key=str):
            where = _field(f"{prefix}arguments", name)
            option = known.get(argument_name(name))
            if option is None:
                raise self._unknown("argument", name, argument_name(name), where, known)
            if option.name in chosen:
                raise InvalidInput(
                    f"The argument {option.name} is named twice.",
                    field=where,
                    fix="Name it once, with dashes.",
                )
            chosen[option.name] = option.read(arguments[name], where=where, files=files)
        declared = {option.name: option for option in self.variables}
        variables: dict[str, str] = {}
        secrets: dict[str, str | Secret] = {}
        for name in sorted(environment, key=str):
            where = _field(f"{prefix}environment", name)
            option = declared.get(name)
            if option is None:
                raise self._unknown("variable", name, name, where, declared)
            value = option.read(environment[name], where=where)
            if option.kind is OptionKind.SECRET:
                secrets[name] = value
            else:
                variables[name] = value if isinstance(value, str) else _number(value)
        return Chosen(chosen, variables, secrets)

    def _unknown(
        self, what: str, name: str, spelled: str, where: str, known: Mapping[str, Option]
    ) -> InvalidInput:
        near = difflib.get_close_matches(str(spelled)[:LONGEST_NAME], known, n=1, cutoff=0.8)
        fix = f"Did you mean {near[0]}?" if near else "Leave it out."
        return InvalidInput(
            f"A serving spec may not set the {what} {_shown(name)} of {self.engine}.",
            field=where,
            fix=f"{fix} The cluster's page lists what may be set.",
            code="option-unknown",
        )


def argument_name(name: str) -> str:
    """An argument's name as engines have it: with dashes."""
    return str(name).replace("_", "-")


def _number(value: float) -> str:
    """12 -> "12", 0.25 -> "0.25"; a whole number never as 1e+16."""
    return str(int(value)) if value == int(value) else repr(float(value))


def _shown(name: object) -> str:
    # A secret in the wrong place is not repeated.
    text = HIDDEN if is_like_a_credential(str(name)) else repr(str(name))
    return text if len(text) <= LONGEST_NAME else text[: LONGEST_NAME - 1] + "…"


def _field(where: str, name: object) -> str:
    """`arguments.dtype`; only `arguments` for a name that would not fit into a message."""
    text = str(name)
    fits = text.isprintable() and len(text) <= LONGEST_NAME and not is_like_a_credential(text)
    return f"{where}.{text}" if fits else where
