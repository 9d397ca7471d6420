"""One worker at a time writes to a model of the store, and one that lost its claim knows it."""

from __future__ import annotations

from datetime import datetime, timedelta

import pytest

from registry.models import Model
from registry.services.write_claims import LIFETIME, WriteClaim, claim_writes, give_back, renew
from tests import factories

pytestmark = pytest.mark.django_db


@pytest.fixture
def model(now: datetime) -> Model:
    return factories.model(now=now)


def claimed(model: Model, now: datetime) -> WriteClaim:
    claim = claim_writes(model_id=model.pk, now=now)
    assert claim is not None
    return claim


def test_claim__held__nobody_else_has_it_and_other_models_are_free(model: Model, now: datetime) -> None:
    claimed(model, now)
    assert claim_writes(model_id=model.pk, now=now + LIFETIME - timedelta(seconds=1)) is None
    assert claim_writes(model_id=factories.model("other", now=now).pk, now=now) is not None


def test_claim__given_back__the_next_one_has_a_larger_token(model: Model, now: datetime) -> None:
    first = claimed(model, now)
    give_back(first)
    assert claimed(model, now).token == first.token + 1


def test_claim__ran_out_and_taken__the_first_holder_can_neither_renew_nor_give_it_back(
    model: Model, now: datetime
) -> None:
    first = claimed(model, now)
    second = claimed(model, now + LIFETIME)
    assert not renew(first, now=now + LIFETIME)
    give_back(first)
    assert claim_writes(model_id=model.pk, now=now + LIFETIME) is None
    assert renew(second, now=now + LIFETIME)


def test_claim__renewed__holds_for_as_long_again(model: Model, now: datetime) -> None:
    claim = claimed(model, now)
    later = now + LIFETIME - timedelta(seconds=1)
    assert renew(claim, now=later)
    assert claim_writes(model_id=model.pk, now=now + LIFETIME) is None
    assert claim_writes(model_id=model.pk, now=later + LIFETIME) is not None


def test_claim__ran_out_and_nobody_took_it__is_still_its_holders(model: Model, now: datetime) -> None:
    claim = claimed(model, now)
    assert renew(claim, now=now + 2 * LIFETIME)


def test_claim__made_before_the_clock_was_set_back__holds_nothing(model: Model, now: datetime) -> None:
    claimed(model, now)
    assert claim_writes(model_id=model.pk, now=now - timedelta(hours=1)) is not None
