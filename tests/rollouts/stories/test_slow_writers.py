"""A worker that is stopped in the middle of a write to MLflow undoes nothing for longer than the next pass, and no page
says meanwhile that MLflow has what it has not.

The slow worker is stopped by its store: `stop` is called in the middle of a request, and whatever it does (another
worker's whole pass, minutes of time) happens before the request goes on.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from datetime import timedelta

import pytest

from controlplane.passes.models import ItemTrouble
from registry.adapters.model_stores.memory import MemoryModelStore
from registry.models import AliasMove, Model
from rollouts import selectors
from rollouts.models import Effect, Endpoint, Rollout
from rollouts.ui.parts.mlflow_words import MlflowNow, mlflow_now
from tests import factories
from tests.rollouts.memory_world import START
from tests.rollouts.services.errands.test_write_backs import ALIAS, FILES, House

pytestmark = pytest.mark.django_db

STOPPED = timedelta(seconds=70)  # longer than a claim


class Killed(BaseException):
    """The process ends here: nothing of it runs any more."""


class StoppingStore(MemoryModelStore):
    """Stops the next request of a kind, `before` it arrives or `after`; each only once. Keeps what was written."""

    def __init__(self, *, start: float) -> None:
        super().__init__(start=start)
        self.stops: dict[tuple[str, str], Callable[[], None]] = {}
        self.written: list[tuple[str, int]] = []
        self.look: Callable[[], None] = lambda: None
        self.arrived: set[int] = set()

    def _stop(self, call: str, when: str) -> None:
        self.look()
        self.stops.pop((call, when), lambda: None)()
        self.look()

    def set_alias(self, model: str, alias: str, number: int) -> None:
        self._stop("set_alias", "before")
        if number in self.arrived:
            self.arrived.remove(number)
        else:
            self.written.append(("alias", number))
            super().set_alias(model, alias, number)
        self._stop("set_alias", "after")

    def arrive(self, number: int) -> None:
        """The request of the worker that is stopped arrives now, while that worker itself goes on later."""
        super().set_alias("llama", ALIAS, number)
        self.arrived.add(number)

    def alias_at(self, model: str, alias: str) -> int | None:
        found = super().alias_at(model, alias)
        self._stop("alias_at", "after")
        return found

    def set_version_tags(self, model: str, number: int, tags: Mapping[str, str]) -> None:
        self._stop("set_version_tags", "before")
        self.written.append((tags["headgate.decision"], number))
        super().set_version_tags(model, number, tags)
        self._stop("set_version_tags", "after")


class Slow(House):
    """`house`, with a page that is open all the time: whenever a worker asks MLflow, the page is compared with it."""

    store: StoppingStore

    def __init__(self, store: StoppingStore) -> None:
        super().__init__(store, "llama")
        self.lies: list[tuple[MlflowNow, int | None]] = []
        store.look = self.compare

    def words(self) -> MlflowNow:
        found = selectors.find_endpoint("chat")
        return mlflow_now(found, found, self.clock.now())

    def compare(self) -> None:
        serves = Endpoint.objects.select_related("stable__version").get().stable
        assert serves is not None
        if self.words().tone == "pass" and self.alias() != serves.version.number:
            self.lies.append((self.words(), self.alias()))

    def stop(self, call: str, when: str, meanwhile: Callable[[], None]) -> None:
        self.store.stops[call, when] = meanwhile

    def another_worker(self, number: int, *, after: timedelta = STOPPED) -> Callable[[], None]:
        """Time passes, another version is decided on, and another worker does its whole pass."""

        def meanwhile() -> None:
            self.clock.advance(after.total_seconds())
            self.decide(number)
            self.keep(1)

        return meanwhile

    def assert_true(self, number: int) -> None:
        self.compare()
        assert self.lies == []
        assert self.alias() == number
        assert self.words().tone == "pass"
        assert self.words().short.startswith(f"{ALIAS} → v{number}, ")
        assert not Effect.objects.filter(state="pending").exists()
        assert not ItemTrouble.objects.exists()
        assert not AliasMove.objects.filter(moved_at=None).exists()


@pytest.fixture
def slow() -> Slow:
    store = StoppingStore(start=START.timestamp() - 1000)
    store.add_model("llama")
    for _ in range(2):
        store.add_version("llama", FILES)
    made = Slow(store)
    made.decide(1)
    made.keep()
    made.look()
    made.assert_true(1)
    store.written.clear()
    return made


@pytest.mark.parametrize("when", ["before", "after"])
def test_alias__worker_stopped_at_its_request__the_newer_state_is_there_when_it_ends(
    slow: Slow, when: str
) -> None:
    slow.decide(2)
    slow.stop("set_alias", when, slow.another_worker(1))
    slow.keep()
    slow.look()
    slow.assert_true(1)


def test_alias__worker_stopped_before_its_request__its_old_one_arrived_and_was_mended_by_itself(
    slow: Slow,
) -> None:
    slow.decide(2)
    slow.stop("set_alias", "before", slow.another_worker(1))
    slow.keep()
    aliases = [number for kind, number in slow.store.written if kind == "alias"]
    assert aliases == [1, 2, 1]


def test_alias__worker_stopped_after_it_read_back__what_it_read_is_not_kept_as_new(slow: Slow) -> None:
    slow.decide(2)
    slow.stop("alias_at", "after", slow.another_worker(1))
    slow.keep()
    slow.look()
    slow.assert_true(1)


def test_alias__the_other_worker_is_between_write_and_read_when_the_old_one_arrives__both_end_right(
    slow: Slow,
) -> None:
    """The slow one's request arrives after the other's was written and before that is read back."""
    slow.decide(2)
    other = slow.another_worker(1)

    def meanwhile() -> None:
        slow.stop("set_alias", "after", lambda: slow.store.arrive(2))
        other()

    slow.stop("set_alias", "before", meanwhile)
    slow.keep()
    slow.look()
    slow.assert_true(1)


def test_alias__worker_killed_once_its_old_request_arrived__no_page_says_written_and_the_next_pass_mends_it(
    slow: Slow,
) -> None:
    slow.decide(2)
    other = slow.another_worker(1)

    def die() -> None:
        raise Killed

    def meanwhile() -> None:
        other()
        slow.stop("set_alias", "after", die)

    slow.stop("set_alias", "before", meanwhile)
    with pytest.raises(Killed):
        slow.keep()
    assert slow.alias() == 2
    assert slow.words().strong == "An earlier write of v2 has not ended."
    slow.look()
    assert slow.words().strong == f"MLflow says otherwise: {ALIAS} → v2, while v1 serves."
    slow.keep(1)
    slow.assert_true(1)


@pytest.mark.parametrize("when", ["before", "after"])
def test_tags__worker_stopped_at_its_request__the_newer_word_is_there_when_it_ends(
    slow: Slow, when: str
) -> None:
    rollout = factories.rollout_promoted(of=slow.endpoint, now=slow.clock.now())
    slow.decide(2)
    other = slow.another_worker(1)

    def meanwhile() -> None:
        Rollout.objects.filter(pk=rollout.pk).update(phase="rolled-back")
        other()

    slow.stop("set_version_tags", when, meanwhile)
    slow.keep()
    slow.look()
    slow.assert_true(1)
    assert slow.store.version("llama", 2).tags["headgate.decision"] == "rolled-back"
    assert ("promoted", 2) in slow.store.written


def test_requests__after_the_claim_was_lost__none_is_begun(slow: Slow) -> None:
    """Stopped at the alias: the tags of what it decided on are not written after those of the other worker."""
    slow.decide(2)
    slow.stop("set_alias", "before", slow.another_worker(1))
    slow.keep()
    assert ("serving", 2) not in slow.store.written


def test_claim__held_by_a_worker_that_is_at_work__another_one_writes_nothing(slow: Slow) -> None:
    slow.decide(2)
    seen: list[list[tuple[str, int]]] = []

    def meanwhile() -> None:
        slow.another_worker(1, after=timedelta(seconds=5))()
        seen.append(list(slow.store.written))

    slow.stop("set_alias", "before", meanwhile)
    slow.keep()
    assert seen == [[]]
    slow.look()
    slow.assert_true(1)


def test_claim__held_while_the_endpoint_has_a_trouble__the_trouble_stays(slow: Slow) -> None:
    slow.decide(2)

    def odd() -> None:
        int("version seven")

    slow.stop("set_alias", "before", odd)
    slow.keep()
    assert ItemTrouble.objects.exists()
    slow.clock.advance(30)
    Model.objects.update(write_until=slow.clock.now() + timedelta(seconds=30))
    slow.keep(1)
    assert ItemTrouble.objects.exists()


def test_claim__of_a_worker_that_was_killed__runs_out(slow: Slow) -> None:
    slow.decide(2)
    Model.objects.update(write_until=slow.clock.now() + timedelta(seconds=60), write_token=7)
    slow.keep(30)
    assert slow.alias() == 1
    slow.keep(31)
    slow.assert_true(2)
