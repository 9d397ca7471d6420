"""The stand-in engine takes the command line that a real vLLM would get."""

from __future__ import annotations

import pytest

from tests.kubernetes.engine import arguments
from tests.standins.engine import parse


def test_arguments__as_for_vllm__say_who_it_is_and_where_it_listens() -> None:
    given = ["serve", "/models/current", "--served-model-name", "chat-v2-aaaa", "chat", "--port=8001"]
    made = parse(arguments([*given, "--tensor-parallel-size=2", "--max-model-len", "4096"], ""))
    assert (made.host, made.port, made.served_model_name) == ("0.0.0.0", 8001, ["chat-v2-aaaa", "chat"])


def test_arguments__no_served_name__is_called_as_its_model() -> None:
    assert parse(arguments(["serve", "tiny"], "")).served_model_name == ["tiny"]


def test_arguments__fingerprint__is_who_answers() -> None:
    made = parse(arguments(["serve", "tiny", "--fingerprint-value", "abc"], ""))
    assert made.variant == "abc"


def test_arguments__behaviour__is_the_stand_ins() -> None:
    assert (
        parse(arguments(["serve", "tiny"], "--latency-ms 20 --fail 'out of memory'")).fail == "out of memory"
    )


def test_arguments__another_command__is_refused() -> None:
    with pytest.raises(SystemExit):
        arguments(["bench"], "")
