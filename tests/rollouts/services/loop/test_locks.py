"""No two wait for each other: the endpoint is locked before its rollouts, by the loop and by people."""

from __future__ import annotations

import threading
from collections.abc import Callable
from pathlib import Path

import pytest
from django.db import connection, transaction

from controlplane.kernel.errors import HeadgateError
from rollouts.models import Rollout
from rollouts.services.commands.rollouts import (
    pause_rollout,
    promote_rollout,
    resume_rollout,
    roll_back_rollout,
)
from rollouts.services.loop.leases import hold
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
