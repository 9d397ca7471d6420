"""What runs say of versions is read bit by bit: new ones first, none for ever, and what was read is kept whatever comes
after."""

from __future__ import annotations

from datetime import datetime, timedelta

import pytest
from django.db import connection
from django.test.utils import CaptureQueriesContext

from controlplane.kernel.clock import ManualClock
from controlplane.kernel.errors import NotFound, Unavailable
from controlplane.passes.models import ItemTrouble
from controlplane.web.models import LiveEvent
from registry.adapters.model_stores.memory import MemoryModelStore
from registry.models import Version
from registry.ports import StoredDataset, StoredVersion
from registry.selectors import DETAILS
from registry.services import details
from registry.services.details import DETAILS_MAX_AGE, read_details
from tests import factories

pytestmark = pytest.mark.django_db


class Store(MemoryModelStore):
    """Says something of every version. `asked` are the numbers; `errors` what it raises for some."""

    def __init__(self) -> None:
        super().__init__()
        self.asked: list[int] = []
        self.errors: dict[int, Exception] = {}
        self.down = False

    def ping(self) -> None:
        if self.down:
            raise Unavailable("MLflow does not answer.")

    def version(self, model: str, number: int) -> StoredVersion:
        self.ping()
        self.asked.append(number)
        if number in self.errors:
            raise self.errors[number]
        return StoredVersion(
            model, number, f"models:/m-{number}", "READY", 1.0, 2.0, run_name=f"run {number}",
            params={"steps": "60"}, metrics={"loss": 0.5},
            datasets=(StoredDataset("tickets", "77be", "training"),),
        )  # fmt: skip


@pytest.fixture
def store() -> Store:
    return Store()


def versions(count: int, *, read_at: datetime | None = None) -> None:
    """A model of so many versions, that were read then."""
    factories.model(versions=count)
    Version.objects.update(details_at=read_at)


def read(store: Store, now: datetime) -> tuple[int, str]:
    return read_details(store=store, clock=ManualClock(now))


def test_read__new_ones__are_read_newest_first_and_kept(store: Store, now: datetime) -> None:
    versions(3)
    assert read(store, now) == (3, "")
    assert store.asked == [3, 2, 1]
    found = Version.objects.get(number=2)
    assert (found.run_name, found.params, found.metrics) == ("run 2", {"steps": "60"}, {"loss": 0.5})
    assert found.datasets == [{"name": "tickets", "digest": "77be", "context": "training"}]
    assert found.details_at == now


@pytest.mark.parametrize(
    ("age", "asked"),
    [(DETAILS_MAX_AGE, [1]), (DETAILS_MAX_AGE - timedelta(seconds=1), []), (-timedelta(hours=1), [1])],
    ids=["old", "young", "read by a clock that showed much later"],
)
def test_read__again__when_it_is_old(store: Store, now: datetime, age: timedelta, asked: list[int]) -> None:
    versions(1, read_at=now - age)
    read(store, now)
    assert store.asked == asked


def test_read__deleted_versions__are_not_asked_for(store: Store, now: datetime) -> None:
    versions(2)
    Version.objects.filter(number=1).update(gone_at=now)
    read(store, now)
    assert store.asked == [2]


def test_read__deleted_since_the_list_was_read__is_left_to_the_next_pass_without_an_error(
    store: Store, now: datetime
) -> None:
    versions(2)
    store.errors[2] = NotFound("There is no version 2.")
    assert read(store, now) == (1, "")
    assert Version.objects.get(number=2).details_at is None
    assert not ItemTrouble.objects.exists()


def test_read__one_is_odd__keeps_its_error_and_the_others_are_kept(store: Store, now: datetime) -> None:
    versions(3)
    store.errors[2] = ValueError("no JSON")
    assert read(store, now) == (2, "")
    assert dict(Version.objects.order_by("number").values_list("number", "details_at")) == {
        1: now,
        2: None,
        3: now,
    }
    assert ItemTrouble.objects.get(pass_name=DETAILS).label == "triage v2"


def test_read__store_goes_away_midway__says_so_and_keeps_what_was_read(store: Store, now: datetime) -> None:
    versions(3)
    store.errors[2] = Unavailable("MLflow does not answer.")
    say = store.version

    def then_down(model: str, number: int) -> StoredVersion:
        store.down = number == 2 or store.down
        return say(model, number)

    store.version = then_down  # type: ignore[method-assign]
    done, source = read(store, now)
    assert (done, bool(source)) == (1, True)
    assert dict(Version.objects.order_by("number").values_list("number", "details_at")) == {
        1: None,
        2: None,
        3: now,
    }


def test_read__many_new_and_many_old_ones__neither_keep_the_others_waiting(
    store: Store, now: datetime, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(details, "NEW_A_PASS", 2)
    monkeypatch.setattr(details, "OLD_A_PASS", 1)
    versions(6, read_at=now - timedelta(hours=1))
    Version.objects.filter(number__gt=2).update(details_at=None)
    read(store, now)
    assert store.asked == [6, 5, 1]
    read(store, now)
    assert store.asked[3:] == [4, 3, 2]


def test_read__nothing_new_is_said__tells_no_open_page(store: Store, now: datetime) -> None:
    versions(2)
    read(store, now)
    told = LiveEvent.objects.count()
    assert told == 1
    read(store, now + DETAILS_MAX_AGE)
    assert len(store.asked) == 4
    assert LiveEvent.objects.count() == told


def test_read__more_versions__are_kept_by_no_more_queries(store: Store, now: datetime) -> None:
    versions(4)
    costs = []
    for numbers in ([1], [1, 2, 3, 4]):
        Version.objects.update(details_at=now)
        Version.objects.filter(number__in=numbers).update(details_at=None)
        with CaptureQueriesContext(connection) as asked:
            read(store, now)
        costs.append(len(asked))
    assert costs[1] <= costs[0]
