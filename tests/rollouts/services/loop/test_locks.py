"""No two wait for each other: the endpoint is locked before its rollouts, by the loop and by people."""

from __future__ import annotations

import threading
from collections.abc import Callable
from pathlib import Path

import pytest
from django.db import connection, transaction

from controlplane.kernel.errors import HeadgateError
from controlplane.passes.models import ItemTrouble
from rollouts.models import Endpoint, FilesState, Rollout, Workload
from rollouts.services.commands.rollouts import (
    pause_rollout,
    promote_rollout,
    resume_rollout,
    roll_back_rollout,
    set_global_stop,
)
from rollouts.services.errands.fetching import fetch_files
from rollouts.services.loop.leases import Lease, hold, look_soon, release
from tests import factories
from tests.rollouts.lock_order import LockOrder
from tests.rollouts.memory_world import ERRORS, MemoryWorld

ON_POSTGRESQL = pytest.mark.skipif(
    connection.vendor != "postgresql", reason="SQLite has one writer at a time"
)
COMMANDS: dict[str, Callable[..., Rollout]] = {
    "pause": pause_rollout,
    "resume": resume_rollout,
    "promote": promote_rollout,
    "roll back": roll_back_rollout,
}


@ON_POSTGRESQL
@pytest.mark.django_db(transaction=True)
@pytest.mark.parametrize("name", sorted(COMMANDS))
def test_command__in_the_middle_of_a_turn__waits_and_nobody_is_ended(name: str, tmp_path: Path) -> None:
    w = MemoryWorld(tmp_path, gates=(ERRORS,)).serve()
    w.start(2)
    w.behave(2)
    w.run_to("progressing")
    if name == "resume":
        pause_rollout(rollout_id=w.rollout.pk, actor=w.manager, now=w.now)
    number, failed = w.rollout.pk, []

    def command() -> None:
        try:
            COMMANDS[name](rollout_id=number, actor=w.manager, now=w.now)
        except HeadgateError:
            pass  # it may come too late for what it wants; it must not be broken off
        except Exception as error:
            failed.append(error)
        finally:
            connection.close()

    lease = w.claim("turn")
    assert lease is not None
    person = threading.Thread(target=command)
    with transaction.atomic():
        hold(lease, now=w.now)
        person.start()
        person.join(timeout=0.5)  # as far as it comes: to the row that the turn holds
        assert person.is_alive()
        Rollout.objects.select_for_update(no_key=True).get(pk=number)
    person.join(timeout=30)
    assert failed == []


class Meanwhile:
    """Something in a thread and a transaction of its own, that is to be ended by nobody."""

    def __init__(self, act: Callable[[], object]) -> None:
        self._act, self.failed = act, list[Exception]()
        self._thread = threading.Thread(target=self._run)

    def begins(self) -> None:
        """It comes as far as to a row that somebody else holds."""
        self._thread.start()
        self._thread.join(timeout=0.5)
        assert self._thread.is_alive()

    def ends(self) -> None:
        self._thread.join(timeout=30)
        assert self.failed == []

    def _run(self) -> None:
        try:
            self._act()
        except Exception as error:
            self.failed.append(error)
        finally:
            connection.close()


@ON_POSTGRESQL
@pytest.mark.django_db(transaction=True)
@pytest.mark.parametrize("name", ["look", "stop", "release"])
def test_write_to_many_endpoints__while_a_batch_is_written__waits_and_nobody_is_ended(
    name: str, tmp_path: Path
) -> None:
    w = MemoryWorld(tmp_path, gates=(ERRORS,)).serve()
    factories.endpoint("another")
    first, last = Endpoint.objects.order_by("pk").values_list("pk", flat=True)
    Endpoint.objects.filter(pk=first).update(environment="production")  # it lies behind the other one now
    held = {Lease(pk, "turn", 1): None for pk in (first, last)}
    if name == "release":
        Endpoint.objects.update(lease_owner="turn", fencing_token=1)
    acts: dict[str, Callable[[], object]] = {
        "look": look_soon,
        "stop": lambda: set_global_stop(on=True, why="", actor=w.manager, now=w.now),
        "release": lambda: release(held, now=w.now),
    }
    other = Meanwhile(acts[name])
    with transaction.atomic():
        Endpoint.objects.select_for_update(no_key=True).get(pk=first)
        other.begins()
        Endpoint.objects.select_for_update(no_key=True).get(pk=last)
    other.ends()


@ON_POSTGRESQL
@pytest.mark.django_db(transaction=True)
def test_files__come_in_the_middle_of_a_turn__wait_and_nobody_is_ended(tmp_path: Path) -> None:
    w = MemoryWorld(tmp_path, gates=(ERRORS,)).serve()
    w.start(2)
    w.clock.advance(1)
    w.turn()
    assert w.workload(2).files_state == FilesState.WANTED
    lease = w.claim("turn")
    assert lease is not None
    version = w.variant(2).version_id
    other = Meanwhile(lambda: fetch_files(version_id=version, worlds=w.worlds))
    with transaction.atomic():
        hold(lease, now=w.now)
        other.begins()
        Workload.objects.filter(variant=w.variant(2)).update(message="as the loop saw it")
    other.ends()
    assert w.workload(2).files_state == FilesState.HERE
    assert not ItemTrouble.objects.exists()


@ON_POSTGRESQL
@pytest.mark.django_db
def test_lock_order__rollout_before_its_endpoint__is_seen(tmp_path: Path) -> None:
    w = MemoryWorld(tmp_path, gates=(ERRORS,)).serve()
    w.start(2)
    endpoint = w.endpoint
    with connection.execute_wrapper(LockOrder()), transaction.atomic():
        Rollout.objects.select_for_update(no_key=True).get(pk=w.rollout.pk)
        with pytest.raises(AssertionError, match="after a rollout"):
            endpoint.save(update_fields=["rescue"])
