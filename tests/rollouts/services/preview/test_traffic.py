"""What a dry run knows of an endpoint's traffic."""

from __future__ import annotations

import pytest

from rollouts.domain.gates.outlook import ASSUMED_BASE_RATES
from rollouts.domain.gates.policy import GateSpec
from rollouts.services.preview.traffic import recent_traffic
from tests import factories

pytestmark = pytest.mark.django_db
NOW = factories.right_now()


def test_recent_traffic__endings_not_counted__are_assumed_as_a_policys_page_assumes_them() -> None:
    endpoint = factories.endpoint(now=NOW)
    gate = GateSpec.from_json({"key": "left", "kind": "abandoned", "delta": 0.1, "weight": 1})
    assert recent_traffic(endpoint, NOW).base_rate(gate) == ASSUMED_BASE_RATES["abandoned"]
