"""PromQL of a policy: which placeholders there are, and what an arm's values become in it."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from controlplane.kernel.errors import InvalidInput
from rollouts.domain.gates.expressions import PLACEHOLDERS, check_expression, escaped, filled_in

GOOD = 'failures_total{namespace="{{namespace}}",pod=~"{{pods}}"}'
VALUES = {"variant": "chat-v1", "pods": "chat-v1-[a-z]+", "namespace": "team-a", "endpoint": "chat"}


@pytest.mark.parametrize(
    "text",
    [
        GOOD,
        'x{v="{{variant}}"} or y{v="{{variant}}"} * 0  # from 0 on',
        'x{a=~"b{2}",v="{{variant}}"}\n+\ny{v="{{variant}}"}',
        "x{e='{{endpoint}}',v='{{variant}}'}",
    ],
)
def test_check__expression_of_one_arm__is_taken_as_it_is(text: str) -> None:
    assert check_expression(text, field="bad_query") == text


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ('x{v="{{version}}"}', "holds {{version}}"),
        ('x{v="{{ variant }}"}', "holds {{ variant }}"),
        ('x{v="{{variant}}",w="{{}}"}', "holds {{}}"),
        ('x{v="{{variant}}",w="{{pods"}', "does not close it"),
        ('x{v="{{{variant}}}"}', "holds {{{variant}}"),
        ("sum(x_total)", "says the same of every arm"),
        ('x{n="{{namespace}}",e="{{endpoint}}"}', "says the same of every arm"),
        ("x{v='{{variant}}'}" + " " * 2_000, "2,018 characters"),
    ],
)
def test_check__anything_else__is_refused_with_its_field(text: str, words: str) -> None:
    with pytest.raises(InvalidInput) as refused:
        check_expression(text, field="bad_query")
    assert refused.value.field == "bad_query"
    assert words in refused.value.message
    assert refused.value.fix


@pytest.mark.parametrize("value", [None, 5, "", "  ", ["x"]])
def test_check__no_text__is_refused_with_its_field(value: object) -> None:
    with pytest.raises(InvalidInput) as refused:
        check_expression(value, field="all_query")
    assert refused.value.field == "all_query"


def test_filled_in__every_placeholder__is_the_arms_own() -> None:
    text = " ".join(f"{{{{{name}}}}}" for name in PLACEHOLDERS)
    assert filled_in(text, VALUES) == "chat-v1 chat-v1-[a-z]+ team-a chat"


def test_filled_in__value_that_looks_like_a_placeholder__stays_a_value() -> None:
    assert filled_in('x{v="{{variant}}"}', {**VALUES, "variant": "{{pods}}"}) == 'x{v="{{pods}}"}'


@given(st.text())
def test_escaped__any_value__ends_no_string_of_promql(value: str) -> None:
    found = escaped(value)
    assert not set("\"'`\n\r") & set(found)
    assert found.replace("\\\\", "").count("\\") == sum(value.count(one) for one in "\"'`\n\r\0")
