from __future__ import annotations

import json

import pytest
from django.conf import settings

from controlplane.access.roles import Role
from tests import factories
from tests.controlplane.api.conftest import ClientOf
from tests.rollouts.conftest import Declare

pytestmark = pytest.mark.django_db


def test_engines__viewer__finds_every_option_with_its_help(client_of: ClientOf) -> None:
    factories.endpoint()

    (vllm,) = client_of(Role.VIEWER).get("/api/v1/clusters/here/engines").json()["engines"]

    assert (vllm["engine"], vllm["widened"]) == ("vllm", [])
    arguments = {option["name"]: option for option in vllm["arguments"]}
    length = arguments["max-model-len"]
    assert (length["kind"], length["least"]) == ("integer", 1)
    assert length["wanted"].startswith("a whole number from 1 to ")
    assert "hermes" in arguments["tool-call-parser"]["choices"]
    assert [part["name"] for part in arguments["limit-mm-per-prompt"]["parts"]] == ["image", "video", "audio"]
    assert all(option["help"].endswith(".") for option in [*vllm["arguments"], *vllm["variables"]])
    assert "OMP_NUM_THREADS" in {option["name"] for option in vllm["variables"]}
    assert "CUDA_VISIBLE_DEVICES" in vllm["passed_on"]


def test_engines__operator_widened_one__names_what(client_of: ClientOf, declare: Declare) -> None:
    factories.endpoint()
    declare(vllm={"passed_on": ["HF_TOKEN"]})

    (vllm,) = client_of(Role.VIEWER).get("/api/v1/clusters/here/engines").json()["engines"]

    assert vllm["widened"] == ["variable HF_TOKEN, passed on from the stack"]


def test_engines__unknown_cluster__is_404(client_of: ClientOf) -> None:
    assert client_of().get("/api/v1/clusters/nowhere/engines").status_code == 404


def test_engines__declarations_cannot_be_read__is_503_with_the_remedy(
    client_of: ClientOf, declare: Declare
) -> None:
    factories.endpoint()
    declare(vllm=7)

    response = client_of().get("/api/v1/clusters/here/engines")

    assert response.status_code == 503
    assert "engines.json" in json.dumps(response.json())
    assert str(settings.HEADGATE.run_dir) in response.json()["fix"]
