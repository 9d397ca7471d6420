"""A gate policy as YAML, out and in.

Out: one text for one policy, keys always in the same order, nothing left to a default. In: what a person wrote, with
the line of every value, so that a mistake can be shown where it was made. Comments are not kept: the stored policy is
data. JSON is YAML, too.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

import yaml

from controlplane.kernel.errors import InvalidInput, Unreadable
from controlplane.kernel.plain import check_plain
from rollouts.domain.gates.policy import GatePolicy

LONGEST = 32_000  # characters; a policy of a hundred gates is shorter
DEEPEST = 12
FIRST_KEYS = ("name", "version", "alpha", "beta", "gates", "fast_kill")
FIRST_GATE_KEYS = (
    "key",
    "label",
    "kind",
    "signal",
    "slo_seconds",
    "bad_query",
    "all_query",
    "query",
    "direction",
    "limit",
    "fail_readings",
    "pass_readings",
    "mode",
    "ratio",
    "delta",
    "margin",
    "weight",
)
FIELD = "text"


class _Loader(yaml.SafeLoader):
    """Stops at once at what no policy needs and what costs time: anchors, which make a small text a huge one, deep
    nesting, which takes the parser a minute, and tags. What is left are texts, numbers, truth values, lists, mappings;
    a date is a text, as in JSON."""

    depth = 0

    def compose_node(self, parent: yaml.Node | None, index: int) -> yaml.Node | None:
        event = self.peek_event()  # type: ignore[no-untyped-call]
        if isinstance(event, yaml.AliasEvent) or getattr(event, "anchor", None):
            raise _at_line("Anchors and aliases are not read here.", event.start_mark.line + 1)
        if getattr(event, "tag", None):
            raise _at_line("Tags such as !!binary are not read here.", event.start_mark.line + 1)
        self.depth += 1
        if self.depth > DEEPEST:
            raise _at_line("This is nested too deeply for a policy.", event.start_mark.line + 1)
        node = super().compose_node(parent, index)
        self.depth -= 1
        return node


class _Dumper(yaml.SafeDumper):
    """Quotes what `_Loader` would take for a number."""


# 1e-05 is a number in JSON and in YAML 1.2; the library reads it as a text without this.
for _kind in (_Loader, _Dumper):
    _kind.add_implicit_resolver(
        "tag:yaml.org,2002:float",
        re.compile(r"[-+]?(\.[0-9]+|[0-9]+(\.[0-9]*)?)[eE][-+]?[0-9]+$"),
        list("-+.0123456789"),
    )


# Dates are no JSON: without the resolver they are the texts that they look like.
_Loader.yaml_implicit_resolvers = {
    first: [(tag, pattern) for tag, pattern in found if tag != "tag:yaml.org,2002:timestamp"]
    for first, found in _Loader.yaml_implicit_resolvers.items()
}


@dataclass(frozen=True, slots=True)
class PolicyDocument:
    """What was written. `body` is the policy without name and version, unchecked; `lines` the line of each field.

    name, version   as written; empty and None when left out. `version` is the one that the text is an edit of.
    """

    body: Mapping[str, Any]
    name: str = ""
    version: int | None = None
    lines: Mapping[str, int] = field(default_factory=dict)

    def line_of(self, field_name: str) -> int | None:
        """The line of a field, or of the nearest part around it that was written (`gates[1].weight` missing:
        the line of `gates[1]`); None when not even that was."""
        name = field_name
        while name:
            if name in self.lines:
                return self.lines[name]
            cut = max(name.rfind("."), name.rfind("["))
            name = name[: max(cut, 0)]
        return None

    def located(self, error: InvalidInput) -> InvalidInput:
        """The same refusal with `line` in its `extra`, where it is known."""
        line = self.line_of(error.field)
        if line is None:
            return error
        extra = {**error.extra, "line": line}
        return InvalidInput(error.message, field=error.field, fix=error.fix, code=error.code, extra=extra)


def policy_text(policy: GatePolicy, *, heading: bool = True) -> str:
    """The canonical YAML: read back it is the same policy with the same digest. `heading`: with name and version."""
    data = policy.to_json()
    if not heading:
        data = {name: value for name, value in data.items() if name not in ("name", "version")}
    ordered = _in_order(data, FIRST_KEYS)
    ordered["gates"] = [_in_order(gate, FIRST_GATE_KEYS) for gate in data["gates"]]
    text = _dumped(ordered, unicode=True)
    # Some letters (a next-line character in a label) would not come back as they were unless escaped.
    return text if _Loader(text).get_single_data() == ordered else _dumped(ordered, unicode=False)


def _dumped(data: Mapping[str, Any], *, unicode: bool) -> str:
    text: str = yaml.dump(
        data, Dumper=_Dumper, sort_keys=False, allow_unicode=unicode, default_flow_style=False, width=110
    )
    return text


def read_policy_text(text: str) -> PolicyDocument:
    """Reads YAML (or JSON). Raises InvalidInput with field `text` and the line in message and `extra` for what is no
    YAML, is no mapping, names a key twice, or uses anchors; whether the values make a policy is not checked here.
    """
    if len(text) > LONGEST:
        raise InvalidInput(f"The text is longer than {LONGEST:,} characters.", field=FIELD)
    try:
        loader = _Loader(text)
        root = loader.get_single_node()
        if root is None:
            raise InvalidInput("The text is empty.", field=FIELD, fix="Write a policy, or copy one.")
        lines = dict(_lines(root, ""))
        data = loader.construct_document(root)
    except yaml.YAMLError as error:
        raise _no_yaml(error) from None
    except ValueError as error:  # a date that is none, a number of thousands of digits
        reason = str(error).partition(";")[0].partition(":")[0]
        raise InvalidInput(f"A value of the text cannot be read: {reason}.", field=FIELD) from None
    if not isinstance(data, dict):
        raise _at_line("The policy must be a mapping of names to values.", 1)
    check_readable(data, lines)
    return document_of(data, lines=lines)


def document_of(data: Mapping[str, Any], *, lines: Mapping[str, int] | None = None) -> PolicyDocument:
    """A policy that came as data, not as text. Raises InvalidInput for a name or version that is none."""
    known = lines or {}
    return PolicyDocument(
        body={name: value for name, value in data.items() if name not in ("name", "version")},
        name=_name(data.get("name", ""), known),
        version=_version(data.get("version"), known),
        lines=known,
    )


def check_readable(data: Any, lines: Mapping[str, int]) -> None:
    """Raises Unreadable, with the line where it is known, for what no database could hold; see `kernel.plain`."""
    try:
        check_plain(data)
    except Unreadable as error:
        where = PolicyDocument({}, lines=lines).line_of(error.field)
        words = error.message if where is None else f"Line {where}: {error.message}"
        extra = {} if where is None else {"line": where}
        raise Unreadable(words, field=error.field or FIELD, fix=error.fix, extra=extra) from None


def _in_order(data: Mapping[str, Any], first: tuple[str, ...]) -> dict[str, Any]:
    return {name: data[name] for name in first if name in data} | dict(data)


def _line(lines: Mapping[str, int], name: str) -> dict[str, int]:
    return {"line": lines[name]} if name in lines else {}


def _name(value: object, lines: Mapping[str, int]) -> str:
    if not isinstance(value, str):
        raise InvalidInput(f"name must be a text, not {value!r}.", field="name", extra=_line(lines, "name"))
    return value


def _version(value: object, lines: Mapping[str, int]) -> int | None:
    if value is None:
        return None
    if isinstance(value, bool) or not isinstance(value, int) or not 0 <= value < 2**31:
        raise InvalidInput(
            f"version must be a whole number, not {value!r}.",
            field="version",
            fix="Write the version that this text is an edit of, or leave it out.",
            extra=_line(lines, "version"),
        )
    return value


def _lines(node: yaml.Node, path: str) -> Iterator[tuple[str, int]]:
    """(field, line) of every value, lines from 1. Raises InvalidInput for a key that is there twice."""
    if path:
        yield path, node.start_mark.line + 1
    if isinstance(node, yaml.SequenceNode):
        for position, item in enumerate(node.value):
            yield from _lines(item, f"{path}[{position}]")
    if isinstance(node, yaml.MappingNode):
        seen: set[str] = set()
        for key, value in node.value:
            name, line = str(key.value), key.start_mark.line + 1
            if not isinstance(key, yaml.ScalarNode):
                raise _at_line("A name must be a plain text.", line)
            if name in seen:
                raise _at_line(f"{name} stands there twice.", line)
            seen.add(name)
            inner = f"{path}.{name}" if path else name
            yield from _lines(value, inner)
            yield inner, line  # the line of the name, not that of a value that begins below it


def _no_yaml(error: yaml.YAMLError) -> InvalidInput:
    mark = getattr(error, "problem_mark", None)
    problem = getattr(error, "problem", None) or getattr(error, "reason", None) or "it is no YAML"
    if mark is None:
        return InvalidInput(f"The text is no YAML: {problem}.", field=FIELD)
    return _at_line(f"This is no YAML: {problem}.", mark.line + 1, column=mark.column + 1)


def _at_line(message: str, line: int, **extra: int) -> InvalidInput:
    return InvalidInput(
        f"Line {line}: {message[0].lower()}{message[1:]}", field=FIELD, extra={"line": line, **extra}
    )
