"""Tells a webhook of MLflow from one that only says so. Pure.

MLflow signs `{delivery id}.{timestamp}.{body}` with HMAC-SHA256 and the shared secret, and sends
`v1,<base64>` (the Standard Webhooks scheme). A delivery is a hint: what it says is never taken over, only
looked up.
"""

from __future__ import annotations

import base64
import hashlib
import hmac

from controlplane.kernel.errors import Forbidden, InvalidInput
from controlplane.kernel.foreign import Fields, parsed, whole_of
from registry.domain.foreign import check_model_name

VERSION = "v1"
TOLERANCE_SECONDS = 300.0
MAX_BODY_BYTES = 256 * 1024
MAX_DELIVERY_ID = 100


def verify_delivery(
    *, secret: str, delivery_id: str, timestamp: str, signature: str, body: bytes, now: float
) -> None:
    """Returns when the delivery was signed with `secret` within the last five minutes.

    `now` in seconds since the epoch. Raises Forbidden when no secret is set, when the signature is not right,
    or when the timestamp is older or newer than the tolerance; InvalidInput naming a header that is missing.
    """
    if not secret:
        raise Forbidden(
            "Webhooks are switched off: no secret is set, so nothing would prove who sent one.",
            fix="Set HEADGATE_MLFLOW_WEBHOOK_SECRET to the secret of MLflow's webhook.",
            code="webhooks-off",
        )
    for name, value in (("Delivery-Id", delivery_id), ("Timestamp", timestamp), ("Signature", signature)):
        if not value:
            raise InvalidInput(f"The header X-MLflow-{name} is missing.", field=f"X-MLflow-{name}")
    if len(delivery_id) > MAX_DELIVERY_ID or not (delivery_id.isascii() and delivery_id.isprintable()):
        raise InvalidInput(
            f"The delivery id is no text of at most {MAX_DELIVERY_ID} printable characters.",
            field="X-MLflow-Delivery-Id",
        )
    # The signature covers the timestamp, so it is looked at first: a forger learns nothing of the clock.
    signed = b".".join((delivery_id.encode(), timestamp.encode(errors="replace"), body))
    wanted = base64.b64encode(hmac.new(secret.encode(), signed, hashlib.sha256).digest()).decode()
    given = [part.partition(",") for part in signature.split()]
    if not any(kind == VERSION and _same(text, wanted) for kind, _, text in given):
        raise Forbidden(
            "The signature of the webhook is not right.",
            fix="Give MLflow's webhook the secret in HEADGATE_MLFLOW_WEBHOOK_SECRET.",
            code="bad-signature",
        )
    if not _is_near(timestamp, now):
        raise Forbidden(
            f"The webhook's timestamp {timestamp[:20]!r} is more than {TOLERANCE_SECONDS:.0f} seconds away.",
            fix="Set the clocks of both machines; deliveries are not taken twice.",
            code="stale-webhook",
        )


def model_of_delivery(body: bytes) -> str:
    """The model that a delivery speaks of, or an empty string: an event that is not about one, or names what can be
    none. The mirror then looks without a hint.

    Raises InvalidInput when the body is not a JSON object.
    """
    try:
        event = Fields(parsed(body))
    except InvalidInput as error:
        raise InvalidInput("The body of the webhook is not a JSON object.", field="body") from error
    if event.has("entity", "prompt"):
        return ""
    try:
        name = event.part("data").exact("name", "")
        if name:
            check_model_name(name)
    except InvalidInput:
        return ""
    return name


def _is_near(timestamp: str, now: float) -> bool:
    try:
        return (
            abs(now - whole_of(timestamp, "The header", "X-MLflow-Timestamp", least=0)) <= TOLERANCE_SECONDS
        )
    except InvalidInput:
        return False


def _same(given: str, wanted: str) -> bool:
    return hmac.compare_digest(given.encode(errors="replace"), wanted.encode())
