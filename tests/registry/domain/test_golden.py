from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from controlplane.kernel.errors import InvalidInput
from registry.domain import golden
from registry.domain.golden import Message, check_name, digest_of_examples, parse_jsonl, parse_objects
from registry.domain.scoring import Scorer

LINE = '{"prompt": "Where is my refund?", "expected": "billing"}'


def refused(text: str) -> InvalidInput:
    with pytest.raises(InvalidInput) as caught:
        parse_jsonl(text)
    return caught.value


def errors_of(text: str) -> list[tuple[int, str]]:
    return [(error["line"], error["field"]) for error in refused(text).extra["errors"]]


def test_parse__shorthand_prompt__becomes_one_user_message_with_defaults() -> None:
    (example,) = parse_jsonl(LINE)
    assert example.messages == (Message("user", "Where is my refund?"),)
    assert (example.expected, example.scorer, example.max_tokens) == ("billing", Scorer.EXACT, 64)


def test_parse__everything_given__taken_over() -> None:
    line = {
        "messages": [{"role": "system", "content": "Route."}, {"role": "user", "content": "Refund?"}],
        "expected": {"queue": "billing"},
        "scorer": "json",
        "max_tokens": 12,
    }
    (example,) = parse_jsonl(json.dumps(line))
    assert [message.role for message in example.messages] == ["system", "user"]
    assert (example.expected, example.scorer, example.max_tokens) == ('{"queue": "billing"}', Scorer.JSON, 12)


def test_parse__empty_lines_byte_order_mark_and_windows_ends__passed_over() -> None:
    text = "\ufeff" + LINE + "\r\n\r\n  \n" + LINE.replace("refund", "parcel") + "\r\n"
    assert len(parse_jsonl(text)) == 2


def test_parse__line_separator_inside_a_text__ends_no_line() -> None:
    (example,) = parse_jsonl('{"prompt": "a\u2028b", "expected": "c"}')
    assert example.messages[0].content == "a\u2028b"


def test_parse__several_faulty_lines__each_named_with_line_and_field() -> None:
    text = "\n".join(
        [LINE, "{not json", "", '{"prompt": "x"}', '{"prompt": "y", "expected": "z", "max_tokens": 0}']
    )
    assert errors_of(text) == [(2, ""), (4, "expected"), (5, "max_tokens")]


def test_parse__faulty_line__message_says_where_what_and_how() -> None:
    error = refused('{"prompt": "x", "expected": "y", "scorer": "bleu"}')
    assert str(error) == (
        "1 line is wrong, so nothing was taken. Line 1, scorer: must be one of exact, contains, token_f1, "
        "json. Correct the lines and upload the whole set again."
    )
    assert (error.field, error.code) == ("text.line_1.scorer", "golden-set-lines")


@pytest.mark.parametrize(
    ("line", "field"),
    [
        ("[1]", ""),
        ("null", ""),
        ('"text"', ""),
        ('{"prompt": "x", "expected": "y", "scorrer": "exact"}', "scorrer"),
        ('{"prompt": "x", "messages": [], "expected": "y"}', "messages"),
        ('{"expected": "y"}', "messages"),
        ('{"messages": [], "expected": "y"}', "messages"),
        ('{"messages": ["x"], "expected": "y"}', "messages[0]"),
        ('{"messages": [{"role": "user"}], "expected": "y"}', "messages[0]"),
        ('{"messages": [{"role": "robot", "content": "x"}], "expected": "y"}', "messages[0].role"),
        ('{"messages": [{"role": ["user"], "content": "x"}], "expected": "y"}', "messages[0].role"),
        ('{"messages": [{"role": "user", "content": 7}], "expected": "y"}', "messages[0].content"),
        ('{"messages": [{"role": "assistant", "content": "x"}], "expected": "y"}', "messages"),
        ('{"prompt": " ", "expected": "y"}', "prompt"),
        ('{"prompt": "x\\u0000", "expected": "y"}', "prompt"),
        ('{"prompt": "x\\ud800", "expected": "y"}', "prompt"),
        ('{"prompt": "x", "expected": ""}', "expected"),
        ('{"prompt": "x", "expected": 5}', "expected"),
        ('{"prompt": "x", "expected": "{", "scorer": "json"}', "expected"),
        ('{"prompt": "x", "expected": NaN, "scorer": "json"}', "expected"),
        ('{"prompt": "x", "expected": "NaN", "scorer": "json"}', "expected"),
        ('{"prompt": "x", "expected": "y", "scorer": []}', "scorer"),
        ('{"prompt": "x", "expected": "y", "max_tokens": true}', "max_tokens"),
        ('{"prompt": "x", "expected": "y", "max_tokens": 1.5}', "max_tokens"),
        ('{"prompt": "x", "expected": "y", "max_tokens": 99999}', "max_tokens"),
        ('{"prompt": "' + "x" * 40_000 + '", "expected": "y"}', "prompt"),
        ("[" * 100_000, ""),
    ],
)
def test_parse__faulty_value__its_field_is_named(line: str, field: str) -> None:
    assert errors_of(LINE + "\n" + line) == [(2, field)]


def test_parse__same_prompt_twice__second_line_refused_naming_the_first() -> None:
    error = refused(LINE + "\n" + LINE)
    assert "line 2, messages: the same prompt as in line 1" in error.message.lower()


@pytest.mark.parametrize("text", ["", "\n \n"])
def test_parse__nothing_in_it__refused(text: str) -> None:
    assert "is empty" in refused(text).message


def test_parse__too_many_errors__fifty_told_and_the_rest_counted() -> None:
    error = refused("\n".join(["{}"] * 60))
    assert (len(error.extra["errors"]), error.extra["error_count"]) == (50, 60)
    assert error.message.endswith("And 10 more.")


def test_parse__too_many_examples__refused_with_the_limit() -> None:
    text = "\n".join(f'{{"prompt": "{n}", "expected": "x"}}' for n in range(golden.MAX_EXAMPLES + 1))
    assert str(golden.MAX_EXAMPLES) in refused(text).message


def test_parse__text_too_large__refused_before_it_is_read() -> None:
    assert "larger than 8 MB" in refused("x" * (golden.MAX_BYTES + 1)).message


def test_parse_objects__same_examples_as_lines__same_digest() -> None:
    from_list = parse_objects([json.loads(LINE)])
    assert digest_of_examples(from_list) == digest_of_examples(parse_jsonl(LINE))


def test_digest__other_order__other_set() -> None:
    one, two = LINE, LINE.replace("refund", "parcel")
    assert digest_of_examples(parse_jsonl(f"{one}\n{two}")) != digest_of_examples(
        parse_jsonl(f"{two}\n{one}")
    )


@pytest.mark.parametrize("name", ["tickets", "tickets-de-2", "7"])
def test_check_name__slug__kept(name: str) -> None:
    assert check_name(name) == name


@pytest.mark.parametrize("name", ["", "Tickets", "a b", "-a", "a--b", "a/b", "ü", "a" * 81])
def test_check_name__anything_else__refused_naming_the_field(name: str) -> None:
    with pytest.raises(InvalidInput) as caught:
        check_name(name)
    assert caught.value.field == "name"


json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3),
    max_leaves=8,
)


@settings(
    deadline=None, suppress_health_check=[HealthCheck.too_slow]
)  # the first draw builds Unicode's tables
@given(
    value=st.fixed_dictionaries(
        {},
        optional=dict.fromkeys(("prompt", "messages", "expected", "scorer", "max_tokens", "x"), json_values),
    )
)
def test_parse__any_object__examples_or_a_refusal_never_another_error(value: dict[str, Any]) -> None:
    try:
        examples = parse_objects([value])
    except InvalidInput as error:
        lines = [told["line"] for told in error.extra["errors"]]
    else:
        lines = [len(examples)]
    assert lines == [1]
