"""Golden sets: prompts with expected answers, read from JSON Lines and checked line by line. Pure."""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from controlplane.kernel.digests import digest_of
from controlplane.kernel.errors import InvalidInput
from controlplane.kernel.plain import is_plain_text
from registry.domain.scoring import Scorer

MAX_BYTES = 8 * 1024 * 1024
MAX_EXAMPLES = 10_000
MAX_MESSAGES = 64
MAX_TEXT = 32_000  # characters of one message or of the expected answer
MAX_TOKENS = 4_096
DEFAULT_MAX_TOKENS = 64
MAX_ERRORS_TOLD = 50
ROLES = ("system", "user", "assistant")
FIELDS = frozenset({"messages", "prompt", "expected", "scorer", "max_tokens"})
NAME = re.compile(r"[a-z0-9]+(?:-[a-z0-9]+)*")
MAX_NAME = 80
_KINDS = {
    "NoneType": "null",
    "bool": "a truth value",
    "int": "a number",
    "float": "a number",
    "str": "text",
    "list": "a list",
    "dict": "an object",
}


@dataclass(frozen=True, slots=True)
class Message:
    """One turn of a chat; `role` is system, user or assistant."""

    role: str
    content: str

    def to_json(self) -> dict[str, str]:
        return {"role": self.role, "content": self.content}


@dataclass(frozen=True, slots=True)
class Example:
    """One prompt, what is expected, how the answer is scored, and how many tokens it may take."""

    messages: tuple[Message, ...]
    expected: str
    scorer: Scorer = Scorer.EXACT
    max_tokens: int = DEFAULT_MAX_TOKENS

    def to_json(self) -> dict[str, Any]:
        return {
            "messages": [message.to_json() for message in self.messages],
            "expected": self.expected,
            "scorer": self.scorer.value,
            "max_tokens": self.max_tokens,
        }


@dataclass(frozen=True, slots=True)
class LineError:
    """What is wrong with one line. `line` counts from 1; `field` is dotted, empty for the whole line."""

    line: int
    field: str
    message: str

    def __str__(self) -> str:
        where = f"line {self.line}" + (f", {self.field}" if self.field else "")
        return f"{where}: {self.message}"

    def to_json(self) -> dict[str, Any]:
        return {"line": self.line, "field": self.field, "message": self.message}


class _Wrong(Exception):
    def __init__(self, field: str, message: str) -> None:
        super().__init__(message)
        self.field, self.message = field, message


def check_name(name: str) -> str:
    """Returns a golden set's name as it is. Raises InvalidInput when it may not be one."""
    if not NAME.fullmatch(name) or len(name) > MAX_NAME:
        raise InvalidInput(
            f"{name!r} cannot name a golden set.",
            field="name",
            fix=f"Use lower-case letters, digits and single dashes, at most {MAX_NAME}, like tickets-de.",
        )
    return name


def parse_jsonl(text: str) -> tuple[Example, ...]:
    r"""The examples of a JSON Lines text; empty lines are passed over.

    Each line is an object: `messages` ([{role, content}], the last one from the user) or the shorthand
    `prompt`; `expected`; and, if wanted, `scorer` (exact, contains, token_f1, json; default exact) and
    `max_tokens` (default 64). Only "\n" and "\r\n" end a line. Raises InvalidInput with every faulty line
    (the first 50 of them) in its message and, as {line, field, message}, in `extra["errors"]`.
    """
    if len(text.encode()) > MAX_BYTES:
        raise InvalidInput(
            f"The text is larger than {MAX_BYTES // 1024 // 1024} MB.",
            field="text",
            fix="A few hundred well-chosen examples decide as well; upload fewer.",
        )
    found: list[tuple[int, Any]] = []
    errors: list[LineError] = []
    for number, line in enumerate(text.removeprefix("\ufeff").split("\n"), start=1):
        if not line.strip():
            continue
        try:
            found.append((number, json.loads(line)))
        except json.JSONDecodeError as error:
            errors.append(LineError(number, "", f"not JSON ({error.msg} at character {error.colno})."))
        except (ValueError, RecursionError) as error:  # numbers of thousands of digits, nesting without end
            errors.append(LineError(number, "", f"not JSON that can be read ({error})."))
    return _examples(found, errors)


def parse_objects(objects: Sequence[Any]) -> tuple[Example, ...]:
    """The examples of a JSON array; an error's `line` is the place in the array, from 1. Raises like
    parse_jsonl.
    """
    return _examples(list(enumerate(objects, start=1)), [])


def digest_of_examples(examples: Iterable[Example]) -> str:
    """`sha256:<hex>` over the examples in their order: the identity of a golden set's content."""
    return digest_of([example.to_json() for example in examples])


def _examples(found: Sequence[tuple[int, Any]], errors: list[LineError]) -> tuple[Example, ...]:
    if not found and not errors:
        raise InvalidInput(
            "The golden set is empty.",
            field="text",
            fix='Write one JSON object a line, for example {"prompt": "...", "expected": "..."}.',
        )
    if len(found) > MAX_EXAMPLES:
        raise InvalidInput(
            f"The golden set has {len(found)} examples; at most {MAX_EXAMPLES} are taken.", field="text"
        )
    examples: list[Example] = []
    first_seen: dict[tuple[Message, ...], int] = {}
    for line, value in found:
        try:
            example = _example(value)
            earlier = first_seen.setdefault(example.messages, line)
            if earlier != line:
                raise _Wrong("messages", f"the same prompt as in line {earlier}; every prompt counts once.")
            examples.append(example)
        except _Wrong as wrong:
            errors.append(LineError(line, wrong.field, wrong.message))
    if errors:
        raise _refusal(sorted(errors, key=lambda error: error.line))
    return tuple(examples)


def _refusal(errors: Sequence[LineError]) -> InvalidInput:
    told = errors[:MAX_ERRORS_TOLD]
    lines = "; ".join(str(error) for error in told)
    more = f" And {len(errors) - len(told)} more." if len(errors) > len(told) else ""
    count = "1 line is" if len(errors) == 1 else f"{len(errors)} lines are"
    return InvalidInput(
        f"{count} wrong, so nothing was taken. {lines[:1].upper()}{lines[1:]}{more}",
        field=f"text.line_{told[0].line}" + (f".{told[0].field}" if told[0].field else ""),
        fix="Correct the lines and upload the whole set again.",
        code="golden-set-lines",
        extra={"errors": [error.to_json() for error in told], "error_count": len(errors)},
    )


def _example(value: Any) -> Example:
    if not isinstance(value, Mapping):
        raise _Wrong("", f"must be an object, is {_kind(value)}.")
    unknown = sorted(set(value) - FIELDS)
    if unknown:
        raise _Wrong(str(unknown[0])[:80], f"is not a field; fields are {', '.join(sorted(FIELDS))}.")
    if ("messages" in value) == ("prompt" in value):
        raise _Wrong("messages", "give either messages or prompt, exactly one of them.")
    if "prompt" in value:
        messages: tuple[Message, ...] = (Message("user", _text(value["prompt"], "prompt")),)
    else:
        messages = _messages(value["messages"])
    if "expected" not in value:
        raise _Wrong("expected", "is missing.")
    scorer = _scorer(value.get("scorer", Scorer.EXACT.value))
    expected = value["expected"]
    if scorer is Scorer.JSON and not isinstance(expected, str):
        expected = _canonical(expected)
    expected = _text(expected, "expected")
    if scorer is Scorer.JSON:
        _canonical(_parsed(expected))
    return Example(messages, expected, scorer, _max_tokens(value.get("max_tokens", DEFAULT_MAX_TOKENS)))


def _messages(value: Any) -> tuple[Message, ...]:
    if not isinstance(value, list) or not value:
        raise _Wrong("messages", f"must be a list with at least one message, is {_kind(value)}.")
    if len(value) > MAX_MESSAGES:
        raise _Wrong("messages", f"holds {len(value)} messages, at most {MAX_MESSAGES} are taken.")
    messages = []
    for place, item in enumerate(value):
        at = f"messages[{place}]"
        if not isinstance(item, Mapping):
            raise _Wrong(at, f"must be an object with role and content, is {_kind(item)}.")
        if set(item) != {"role", "content"}:
            raise _Wrong(at, "must hold role and content and nothing else.")
        if item["role"] not in ROLES:
            raise _Wrong(f"{at}.role", f"must be one of {', '.join(ROLES)}.")
        messages.append(Message(item["role"], _text(item["content"], f"{at}.content")))
    if messages[-1].role != "user":
        raise _Wrong("messages", "the last message must come from the user: it is the one that is answered.")
    return tuple(messages)


def _text(value: Any, field: str) -> str:
    if not isinstance(value, str):
        raise _Wrong(field, f"must be text, is {_kind(value)}.")
    if not value.strip():
        raise _Wrong(field, "is empty.")
    if len(value) > MAX_TEXT:
        raise _Wrong(field, f"has {len(value)} characters, at most {MAX_TEXT} are taken.")
    if not is_plain_text(value):
        raise _Wrong(field, "holds a character that cannot be stored (NUL or half a surrogate pair).")
    return value


def _scorer(value: Any) -> Scorer:
    try:
        return Scorer(value)
    except ValueError:
        raise _Wrong("scorer", f"must be one of {', '.join(scorer.value for scorer in Scorer)}.") from None


def _max_tokens(value: Any) -> int:
    if isinstance(value, bool) or not isinstance(value, int) or not 1 <= value <= MAX_TOKENS:
        raise _Wrong("max_tokens", f"must be a whole number from 1 to {MAX_TOKENS}.")
    return value


def _parsed(text: str) -> Any:
    try:
        return json.loads(text)
    except (ValueError, RecursionError):
        raise _Wrong("expected", "must be JSON, because the scorer is json.") from None


def _canonical(value: Any) -> str:
    try:
        return json.dumps(value, ensure_ascii=False, sort_keys=True, allow_nan=False)
    except (ValueError, RecursionError):
        raise _Wrong("expected", "must be JSON without NaN or infinity.") from None


def _kind(value: Any) -> str:
    return _KINDS.get(type(value).__name__, "something else")
