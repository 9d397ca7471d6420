from __future__ import annotations

from typing import Any

import pytest

from controlplane.kernel.digests import digest_of
from controlplane.kernel.errors import InvalidInput
from rollouts.domain.engine_options import EngineOptions, Option, OptionKind
from rollouts.domain.secrets import KeptSecret, SealedSecret, SecretFile, read_secret
from rollouts.domain.variants import ServingSpec, variant_digest

SEALED = SealedSecret("gAAAA-sealed", "9f2c")
OPTIONS = EngineOptions(
    "vllm",
    (Option("note", OptionKind.TEXT, "Any.", pattern=".*"),),
    (
        Option("LICENCE", OptionKind.SECRET, "Unlocks it."),
        Option("PIN", OptionKind.SECRET, "Digits.", pattern="[0-9]+"),
        Option("MODE", OptionKind.TEXT, "Any.", pattern=".*"),
    ),
)


@pytest.mark.parametrize(
    ("data", "secret"),
    [
        ({"secret": {"file": "hf-token"}}, SecretFile("hf-token")),
        ({"secret": True, "set": True, "fingerprint": "9f2c"}, KeptSecret("9f2c")),
        ({"secret": True}, KeptSecret("")),
    ],
)
def test_read__what_somebody_sends__is_a_reference_or_what_is_set(data: dict[str, Any], secret: Any) -> None:
    assert read_secret(data, where="serving.environment.X") == secret


@pytest.mark.parametrize(
    "data",
    [
        {"secret": "sentinel"},
        {"secret": {"value": "sentinel"}},
        {"secret": {"file": "../sentinel"}},
        {"secret": {"file": "a/sentinel"}},
        {"secret": {"file": ".sentinel"}},
        {"secret": {"file": "sentinel\0"}},
        {"secret": {"file": ["sentinel"]}},
        {"secret": {"file": "ok", "more": "sentinel"}},
        {"secret": {"sealed": "sentinel", "fingerprint": "9f2c"}},
        {"secret": True, "fingerprint": "sentinel"},
        {"secret": 1},
        {"secret": None},
    ],
)
def test_read__anything_else__is_refused_at_its_field_without_repeating_it(data: dict[str, Any]) -> None:
    with pytest.raises(InvalidInput) as caught:
        read_secret(data, where="serving.environment.X")
    assert caught.value.field == "serving.environment.X"
    assert "sentinel" not in str(caught.value)


def test_spec__stored_and_read_again__is_the_same() -> None:
    spec = ServingSpec(environment={"A": SEALED, "B": SecretFile("b"), "C": "1"})
    assert ServingSpec.from_json(spec.to_json(), stored=True) == spec


def test_spec__shown__holds_no_sealed_value_and_no_text_that_looks_like_a_secret() -> None:
    spec = ServingSpec(
        arguments={"api-key": "opensesame", "dtype": "auto"},
        environment={"A": SEALED, "B": SecretFile("b"), "HF_TOKEN": "opensesame", "C": "hf_0123456789"},
    )
    shown = spec.to_public()
    assert shown["environment"]["A"] == {"secret": True, "set": True, "fingerprint": "9f2c"}
    assert shown["environment"]["B"] == {"secret": {"file": "b"}}
    assert shown["arguments"] == {"api-key": "[hidden]", "dtype": "auto"}
    for secret in ("gAAAA", "opensesame", "hf_0123"):
        assert secret not in str(shown)
    assert "gAAAA" not in repr(spec) + repr(SEALED)
    assert "opensesame" not in repr(ServingSpec(environment={"HF_TOKEN": "opensesame"}))


def test_digest__without_secrets__is_what_it_always_was() -> None:
    """So that variants from before keep their names."""
    serving = {
        "engine": "vllm",
        "arguments": {"a": 1},
        "environment": {"B": "2"},
        "resources": {},
        "replicas": 1,
    }
    spec = ServingSpec(arguments={"a": 1}, environment={"B": "2"})
    assert variant_digest(manifest_digest="m", spec=spec) == digest_of({"manifest": "m", "serving": serving})


def test_digest__secret_sealed_anew__is_the_same_and_another_secret_another() -> None:
    def digest(secret: Any) -> str:
        return variant_digest(manifest_digest="m", spec=ServingSpec(environment={"A": secret}))

    assert digest(SEALED) == digest(SealedSecret("sealed again", "9f2c"))
    others = [SealedSecret("x", "9f2d"), SecretFile("a"), SecretFile("b")]
    assert len({digest(secret) for secret in (SEALED, *others)}) == 4


@pytest.mark.parametrize("value", ["a value", "two\nlines", SEALED, SecretFile("x"), KeptSecret("9f2c")])
def test_choose__secret__is_apart_from_the_other_variables(value: Any) -> None:
    chosen = OPTIONS.choose({}, {"LICENCE": value, "MODE": "fast"})
    assert (chosen.secrets, chosen.variables) == ({"LICENCE": value}, {"MODE": "fast"})


@pytest.mark.parametrize(
    ("environment", "field"),
    [
        ({"LICENCE": "abc"}, "environment.LICENCE"),
        ({"LICENCE": "x" * 16_001}, "environment.LICENCE"),
        ({"LICENCE": "nul\0 inside"}, "environment.LICENCE"),
        ({"LICENCE": "lone \ud800"}, "environment.LICENCE"),
        ({"PIN": "letters"}, "environment.PIN"),
        ({"MODE": SecretFile("x")}, "environment.MODE"),
        ({"MODE": "hf_abcdefghijklmnop"}, "environment.MODE"),
        ({"MODE": "amqp://user:opensesame@host"}, "environment.MODE"),
        ({"hf_abcdefghijklmnop": "1"}, "environment"),
    ],
)
def test_choose__secret_in_the_wrong_form_or_place__names_the_field_and_repeats_nothing(
    environment: dict[str, Any], field: str
) -> None:
    with pytest.raises(InvalidInput) as caught:
        OPTIONS.choose({}, environment)
    assert caught.value.field == field
    for value in ("letters", "hf_abc", "opensesame"):
        assert value not in str(caught.value)


def test_choose__credential_in_a_text_argument__says_how_to_give_it() -> None:
    with pytest.raises(InvalidInput, match="declares as a secret") as caught:
        OPTIONS.choose({"note": "sk-abcdefghijklmnop"}, {})
    assert (caught.value.field, caught.value.code) == ("arguments.note", "credential-in-the-open")
