"""Where MLflow's webhooks arrive. A delivery is a hint: it makes the mirror look, and nothing else."""

from __future__ import annotations

from http import HTTPStatus

from django.http import HttpRequest, HttpResponse, JsonResponse
from django.views.decorators.csrf import csrf_exempt
from django.views.decorators.http import require_POST

from controlplane.api.problems import MEDIA_TYPE, problem_of, request_id_of
from controlplane.kernel.errors import HeadgateError, InvalidInput
from registry.domain.webhooks import MAX_BODY_BYTES
from registry.services.hooks import receive_delivery
from registry.wake import ask_for_mirror
from registry.wiring import webhook_secret


@csrf_exempt  # a machine calls, without a session: the signature is what proves who it is
@require_POST
def receive_mlflow_hook(request: HttpRequest) -> HttpResponse:
    """202 for a signed delivery, also for one that came before; a problem (403, 422) for anything else."""
    try:
        model = receive_delivery(
            secret=webhook_secret(),
            delivery_id=request.headers.get("X-MLflow-Delivery-Id", ""),
            timestamp=request.headers.get("X-MLflow-Timestamp", ""),
            signature=request.headers.get("X-MLflow-Signature", ""),
            body=_body(request),
            now=request.received_at,  # type: ignore[attr-defined]
        )
    except HeadgateError as error:
        problem = problem_of(error)
        body = problem.body(instance=request.path, request_id=request_id_of(request))
        return JsonResponse(body, status=problem.status, content_type=MEDIA_TYPE)
    if model is not None:
        ask_for_mirror(*([model] if model else []))
    return HttpResponse(status=HTTPStatus.ACCEPTED)


def _body(request: HttpRequest) -> bytes:
    body = request.read(MAX_BODY_BYTES + 1)
    if len(body) > MAX_BODY_BYTES:
        raise InvalidInput(f"The body is larger than {MAX_BODY_BYTES // 1024} kB.", field="body")
    return body
