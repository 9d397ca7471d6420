from __future__ import annotations

import base64
import hashlib
import hmac

import pytest

from controlplane.kernel.errors import Forbidden, InvalidInput
from registry.domain.webhooks import model_of_delivery, verify_delivery

NOW = 1_795_252_000.0
BODY = b'{"entity": "model_version", "action": "created", "data": {"name": "llama"}}'


def sign(
    secret: str = "s3cret", delivery: str = "d-1", timestamp: str = "1795252000", body: bytes = BODY
) -> str:
    text = f"{delivery}.{timestamp}.".encode() + body
    return "v1," + base64.b64encode(hmac.new(secret.encode(), text, hashlib.sha256).digest()).decode()


def check(signature: str, **changes: object) -> None:
    values: dict[str, object] = {
        "secret": "s3cret",
        "delivery_id": "d-1",
        "timestamp": "1795252000",
        "body": BODY,
        "now": NOW,
    }
    verify_delivery(signature=signature, **(values | changes))  # type: ignore[arg-type]


def test_verify__signed_with_the_secret__returns() -> None:
    check(sign())


def test_verify__two_signatures_one_right__returns() -> None:
    check("v1,bm8= " + sign())


@pytest.mark.parametrize(
    "changes",
    [{"body": BODY + b" "}, {"delivery_id": "d-2"}, {"timestamp": "1795252001"}, {"secret": "other"}],
)
def test_verify__anything_signed_was_changed__refused(changes: dict[str, object]) -> None:
    with pytest.raises(Forbidden) as caught:
        check(sign(), **changes)
    assert caught.value.code == "bad-signature"


@pytest.mark.parametrize("signature", ["nonsense", "v2," + sign()[3:], "v1,", "v1,ü"])
def test_verify__not_a_signature__refused(signature: str) -> None:
    with pytest.raises(Forbidden):
        check(signature)


@pytest.mark.parametrize("timestamp", ["1795251699", "1795252301"])
def test_verify__timestamp_too_far_away__refused(timestamp: str) -> None:
    with pytest.raises(Forbidden) as caught:
        check(sign(timestamp=timestamp), timestamp=timestamp)
    assert caught.value.code == "stale-webhook"


@pytest.mark.parametrize("timestamp", ["now", "-1795252000", "1e9", "²"])
def test_verify__timestamp_no_number__refused(timestamp: str) -> None:
    with pytest.raises(Forbidden):
        check(sign(timestamp=timestamp), timestamp=timestamp)


@pytest.mark.parametrize("timestamp", ["1" * 5000, "1_795_252_000", "\ud800", ""])
def test_verify__timestamp_that_is_no_time__refused_though_it_is_signed(timestamp: str) -> None:
    text = f"d-1.{timestamp}.".encode(errors="replace") + BODY
    signature = "v1," + base64.b64encode(hmac.new(b"s3cret", text, hashlib.sha256).digest()).decode()
    with pytest.raises((Forbidden, InvalidInput)):
        check(signature, timestamp=timestamp)


@pytest.mark.parametrize("delivery", ["d\x00", "\ud800", "d" * 101, "d\n", "доставка"])
def test_verify__delivery_id_that_no_column_takes__named(delivery: str) -> None:
    with pytest.raises(InvalidInput) as refused:
        check(sign(), delivery_id=delivery)
    assert refused.value.field == "X-MLflow-Delivery-Id"


def test_verify__signature_with_half_a_character__refused() -> None:
    with pytest.raises(Forbidden):
        check("v1,\ud800")


@pytest.mark.parametrize("name", ["a\\u0000b", "\\ud800", "a/b", "x" * 300, "..", " "])
def test_model_of__name_that_no_model_has__is_no_hint(name: str) -> None:
    assert model_of_delivery(b'{"data": {"name": "%b"}}' % name.encode()) == ""


def test_verify__no_secret_set__refused_saying_which_setting() -> None:
    with pytest.raises(Forbidden, match="HEADGATE_MLFLOW_WEBHOOK_SECRET"):
        check(sign(secret=""), secret="")


@pytest.mark.parametrize("name", ["delivery_id", "timestamp"])
def test_verify__header_missing__named(name: str) -> None:
    with pytest.raises(InvalidInput, match="is missing"):
        check(sign(), **{name: ""})


def test_model_of__event_of_a_version__its_model() -> None:
    assert model_of_delivery(BODY) == "llama"


@pytest.mark.parametrize(
    "body", [b'{"entity": "prompt", "data": {"name": "greeting"}}', b"{}", b'{"data": {"name": 5}}']
)
def test_model_of__event_of_something_else__empty(body: bytes) -> None:
    assert model_of_delivery(body) == ""


@pytest.mark.parametrize("body", [b"", b"[1]", b"\xff", b"[" * 100_000])
def test_model_of__no_object__refused(body: bytes) -> None:
    with pytest.raises(InvalidInput):
        model_of_delivery(body)
