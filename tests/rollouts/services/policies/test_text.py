"""A policy as YAML: out in one form, in with the line of every mistake."""

from __future__ import annotations

from typing import Any

import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st

from controlplane.kernel.digests import digest_of
from controlplane.kernel.errors import InvalidInput
from rollouts.domain.gates.policy import GatePolicy
from rollouts.services.policies.text import LONGEST, policy_text, read_policy_text
from tests.factories.endpoints import POLICY_BODY

POLICY = GatePolicy.from_json(POLICY_BODY)

texts = st.text(st.characters(exclude_characters="\x00", exclude_categories=["Cs"]), min_size=1, max_size=20)
numbers = st.floats(min_value=1e-6, max_value=0.5, allow_nan=False)
bodies = st.fixed_dictionaries(
    {
        "name": st.just("p"),
        "version": st.integers(1, 10**6),
        "alpha": numbers,
        "warm_up_requests": st.integers(0, 10**9),
        "restart_every_seconds": st.floats(1, 86_400),
        "on_error": st.sampled_from(["hold", "rollback"]),
        "gates": st.lists(
            st.fixed_dictionaries(
                {
                    "key": texts.filter(str.strip),
                    "label": texts.filter(str.strip),
                    "kind": st.sampled_from(["error_rate", "feedback"]),
                    "ratio": st.floats(1.0, 900.0),
                    "delta": numbers,
                    "required": st.booleans(),
                }
            ),
            min_size=1,
            max_size=4,
            unique_by=lambda gate: gate["key"],
        ),
    }
)


def read(text: str) -> GatePolicy:
    document = read_policy_text(text)
    return GatePolicy.from_json({**document.body, "name": document.name, "version": document.version})


@given(bodies)
def test_policy_text__read_back__has_the_same_digest(body: dict[str, Any]) -> None:
    policy = GatePolicy.from_json(body)
    text = policy_text(policy)
    again = read(text)
    assert again == policy
    assert digest_of(again.to_json()) == digest_of(policy.to_json())
    assert policy_text(again) == text


def test_policy_text__keys__stand_in_the_order_people_read() -> None:
    data = yaml.safe_load(policy_text(POLICY))
    assert list(data)[:6] == ["name", "version", "alpha", "beta", "gates", "fast_kill"]
    assert list(data["gates"][2])[:6] == ["key", "label", "kind", "signal", "slo_seconds", "mode"]


def test_policy_text__without_heading__names_no_policy() -> None:
    document = read_policy_text(policy_text(POLICY, heading=False))
    assert (document.name, document.version) == ("", None)


def test_read_policy_text__json__is_read_too() -> None:
    assert read_policy_text('{"name": "p", "alpha": 0.1}').body == {"alpha": 0.1}


def test_read_policy_text__number_as_json_writes_it__is_a_number() -> None:
    assert read_policy_text('{"alpha": 1e-05, "beta": 5E-2}').body == {"alpha": 1e-05, "beta": 0.05}


def test_policy_text__label_that_looks_like_a_number__stays_a_text() -> None:
    gate = {"key": "1e-2", "label": "1.5", "kind": "error_rate", "delta": 0.01}
    policy = GatePolicy.from_json({"name": "p", "version": 1, "gates": [gate]})
    assert read(policy_text(policy)) == policy


def test_read_policy_text__comments__are_not_kept() -> None:
    assert read_policy_text("# why\nalpha: 0.05  # usual\n").body == {"alpha": 0.05}


def test_document__mistake_in_a_field__has_its_line() -> None:
    text = policy_text(POLICY).replace("slo_seconds: 0.25", "slo_seconds: soon")
    document = read_policy_text(text)
    with pytest.raises(InvalidInput) as caught:
        read(text)
    error = document.located(caught.value)
    assert error.field == "gates[2].slo_seconds"
    assert text.splitlines()[error.extra["line"] - 1].strip() == "slo_seconds: soon"


def test_document__missing_field__has_the_line_of_its_gate() -> None:
    text = "alpha: 0.05\ngates:\n  - key: a\n    kind: error_rate\n  - key: b\n"
    assert read_policy_text(text).line_of("gates[1].kind") == 5


def test_document__field_that_is_nowhere__has_no_line() -> None:
    error = InvalidInput("gates is missing.", field="gates")
    assert read_policy_text("alpha: 0.05").located(error) is error


@pytest.mark.parametrize(
    ("text", "line", "words"),
    [
        ("alpha: 0.05\nalpha: 0.5", 2, "alpha stands there twice"),
        ("gates:\n- {key: a, key: b}", 2, "key stands there twice"),
        ("a: 1\nb: [1,", 2, "this is no YAML"),
        ("a: 1\n b: 2", 2, "this is no YAML"),
        ("- key: a", 1, "must be a mapping"),
        ("a: 1\nb: &x [1]\nc: *x", 2, "anchors and aliases are not read"),
        ("a: 1\n? [b]\n: 2", 2, "a name must be a plain text"),
        ("a: !!python/object/apply:os.system [ls]", 1, "tags such as"),
        ("name: 3", 1, "name must be a text"),
        ("a: 1\nversion: newest", 2, "version must be a whole number"),
        ("a: " + "[" * 20 + "]" * 20, 1, "nested too deeply"),
    ],
)
def test_read_policy_text__no_policy__names_the_line(text: str, line: int, words: str) -> None:
    with pytest.raises(InvalidInput) as caught:
        read_policy_text(text)
    assert caught.value.extra["line"] == line
    assert words in caught.value.message


@pytest.mark.parametrize(
    "text",
    ["", "# only a comment", "a: " + "9" * 5_000, "\x00", "[" * 30_000, "x" * (LONGEST + 1)],
)
def test_read_policy_text__nothing_that_can_be_read__is_refused(text: str) -> None:
    with pytest.raises(InvalidInput):
        read_policy_text(text)


@pytest.mark.parametrize(
    ("text", "line", "words"),
    [
        ("alpha: 0.1\nbeta: !!binary aGk=", 2, "tags such as"),
        ("!!python/object/apply:os.system [ls]", 1, "tags such as"),
        ("gates: !!set {a, b}", 1, "tags such as"),
        ("a: &a [x]\nb: [*a, *a]", 1, "anchors"),
        ('alpha: 1\nnote: "\\ud800"', 2, "surrogate"),
        ('alpha: 1\ngates:\n- key: "a\\0b"', 3, "NUL"),
        ("alpha: 0x" + "f" * 20_000, 1, "largest number"),
        ("alpha: 1e308", 1, "largest number"),
        ("alpha: .nan", 1, "no finite number"),
    ],
)
def test_read_policy_text__what_no_policy_and_no_database_holds__names_the_line(
    text: str, line: int, words: str
) -> None:
    with pytest.raises(InvalidInput, match=words) as caught:
        read_policy_text(text)
    assert caught.value.extra["line"] == line


@pytest.mark.parametrize("text", ["1: 2", "null: 2\nb: 3", "true: 1"])
def test_read_policy_text__name_that_is_no_text__is_refused(text: str) -> None:
    with pytest.raises(InvalidInput, match="name that is no text"):
        read_policy_text(text)


def test_read_policy_text__date__is_the_text_that_it_looks_like() -> None:
    assert read_policy_text("label: 2020-01-01").body == {"label": "2020-01-01"}


def test_policy_text__label_that_looks_like_a_date__stays_a_text() -> None:
    body = {**POLICY_BODY, "gates": [{**POLICY_BODY["gates"][1], "label": "2020-01-01", "weight": 1}]}  # type: ignore[index]
    policy = GatePolicy.from_json(body)
    assert read(policy_text(policy)) == policy
