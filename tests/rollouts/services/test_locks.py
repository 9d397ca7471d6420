"""No two wait for each other: the endpoint is locked before its rollouts, by the loop and by people."""

from __future__ import annotations

import threading
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

import pytest
from django.db import connection, transaction
from django.test.utils import CaptureQueriesContext

from controlplane.kernel.errors import HeadgateError, NotFound
from controlplane.passes.models import ItemTrouble
from rollouts.models import Arm, Endpoint, FilesState, Rollout, Workload
from rollouts.services.commands.rollouts import (
    pause_rollout,
    promote_rollout,
    resume_rollout,
    roll_back_rollout,
    set_global_stop,
)
from rollouts.services.errands.fetching import fetch_files
from rollouts.services.locks import in_order, lock_endpoints_of, lock_rollout, locked_endpoints
from rollouts.services.loop.leases import Lease, hold, look_soon, release
from tests import factories
from tests.rollouts.lock_order import LockOrder
from tests.rollouts.memory_world import ERRORS, MemoryWorld

NOW = factories.right_now()
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

    def runs(self) -> None:
        self._thread.start()
        self.ends()

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


# --- the watch over the order in all tests ----------------------------------------------------------------------------

LOCK_ENDPOINT = (
    'SELECT "rollouts_endpoint"."id" FROM "rollouts_endpoint" '
    'WHERE "rollouts_endpoint"."id" = %s FOR NO KEY UPDATE'
)
LOCK_ROLLOUT = 'UPDATE "rollouts_rollout" SET "reason" = %s WHERE "rollouts_rollout"."id" = %s'
SEVERAL_ENDPOINTS = (
    'SELECT "rollouts_endpoint"."id" FROM "rollouts_endpoint" WHERE "rollouts_endpoint"."id" IN (%s, %s)'
)
IN_ORDER = f'{SEVERAL_ENDPOINTS} ORDER BY "rollouts_endpoint"."id" ASC FOR NO KEY UPDATE'
EVERY_ENDPOINT = (
    'UPDATE "rollouts_endpoint" SET "next_look_at" = NULL WHERE "rollouts_endpoint"."id" IN '
    '(SELECT U0."id" AS "pk" FROM "rollouts_endpoint" U0 ORDER BY 1 ASC FOR NO KEY UPDATE)'
)
ENDPOINTS_OF_A_TURN = (
    'UPDATE "rollouts_endpoint" SET "outage" = CAST(new.column2 AS jsonb) FROM '
    '(VALUES (%s, %s), (%s, %s)) AS new WHERE "rollouts_endpoint"."id" = CAST(new.column1 AS bigint)'
)
ARM = 'UPDATE "rollouts_arm" SET "desired_bp" = %s WHERE "rollouts_arm"."id" = %s'
EFFECT = 'UPDATE "rollouts_effect" SET "state" = %s WHERE "rollouts_effect"."endpoint_id" = %s'
Statement = tuple[str, tuple[object, ...]]


def watch(*statements: Statement) -> None:
    """One transaction with these statements."""
    order = LockOrder()
    for sql, params in (("SAVEPOINT s1", ()), *statements, ("RELEASE SAVEPOINT s1", ())):
        order(lambda *_: None, sql, params, False, {})


@pytest.mark.parametrize(
    ("statements", "words"),
    [
        ([(LOCK_ROLLOUT, ("", 1)), (LOCK_ENDPOINT, (1,))], "endpoint after a rollout"),
        ([(EFFECT, ("", 1)), (LOCK_ENDPOINT, (1,))], "endpoint after an effect"),
        ([(LOCK_ENDPOINT, (1,)), (ARM, (0, 5)), (LOCK_ROLLOUT, ("", 1))], "a rollout after an arm"),
        (
            [(LOCK_ENDPOINT, (1,)), (LOCK_ROLLOUT, ("", 1)), (ARM, (0, 5)), (LOCK_ROLLOUT, ("", 2))],
            "a rollout after an arm",
        ),
        ([(LOCK_ENDPOINT, (2,)), (LOCK_ENDPOINT, (1,))], "endpoint 1 after 2"),
        ([(f"{SEVERAL_ENDPOINTS} FOR UPDATE", (1, 2))], "several endpoints in no order"),
        ([(ENDPOINTS_OF_A_TURN, (1, "{}", 2, "{}"))], "several endpoints in no order"),
        ([('UPDATE "rollouts_endpoint" SET "rescue" = %s', (True,))], "endpoints in no order"),
        ([(LOCK_ENDPOINT, (4,)), (EVERY_ENDPOINT, ())], "any endpoints after 4"),
    ],
)
def test_lock_order__other_than_promised__is_refused(statements: list[Statement], words: str) -> None:
    with pytest.raises(AssertionError, match=words):
        watch(*statements)


@pytest.mark.parametrize(
    "statements",
    [
        [(LOCK_ENDPOINT, (1,)), (LOCK_ROLLOUT, ("", 1)), (ARM, (0, 5)), (EFFECT, ("", 1))],
        [(LOCK_ENDPOINT, (1,)), (LOCK_ROLLOUT, ("", 1)), (ARM, (0, 5)), (LOCK_ROLLOUT, ("", 1))],
        [(LOCK_ENDPOINT, (1,)), (LOCK_ENDPOINT, (2,)), (LOCK_ENDPOINT, (1,))],
        [(IN_ORDER, (1, 2)), (ENDPOINTS_OF_A_TURN, (2, "{}", 1, "{}"))],
        [(EVERY_ENDPOINT, ()), (LOCK_ENDPOINT, (4,))],
        [(f"{SEVERAL_ENDPOINTS} FOR NO KEY UPDATE SKIP LOCKED", (2, 1))],
    ],
)
def test_lock_order__as_promised__is_left_alone(statements: list[Statement]) -> None:
    watch(*statements)


def test_lock_order__another_transaction__begins_with_nothing() -> None:
    order = LockOrder()
    for number in (2, 1):
        for sql in ("SAVEPOINT s1", LOCK_ENDPOINT, "RELEASE SAVEPOINT s1"):
            order(lambda *_: None, sql, (number,), False, {})
    assert order.found == []


@ON_POSTGRESQL
@pytest.mark.django_db
def test_lock_order__real_statements__are_understood_and_what_the_product_swallows_is_kept(
    lock_order: list[str],
) -> None:
    first, last = factories.endpoint(), factories.endpoint("another")
    number = factories.rollout_pending(of=first).pk

    def the_larger_number_first() -> None:
        locked_endpoints().get(pk=last.pk)
        hold(Lease(first.pk, "turn", 1), now=NOW)

    def by_name() -> None:
        list(locked_endpoints().filter(environment="production").values_list("pk").order_by("name"))

    def arms_first() -> None:
        locked_endpoints().get(pk=first.pk)
        Arm.objects.update(requests=1)
        lock_rollout(number)

    for wrong in (the_larger_number_first, by_name, arms_first):
        with suppress(AssertionError), transaction.atomic():
            wrong()
    assert [one.split(":")[0] for one in lock_order] == [
        f"locks endpoint {first.pk} after {last.pk}",
        "locks endpoints in no order",
        "locks a rollout after an arm",
    ]
    lock_order.clear()


@ON_POSTGRESQL
@pytest.mark.django_db(transaction=True)
def test_lock_order__without_a_transaction_of_the_test__is_watched_in_threads_too(
    lock_order: list[str],
) -> None:
    first, last = factories.endpoint(), factories.endpoint("another")

    def lock(*endpoints: Endpoint) -> None:
        with suppress(AssertionError), transaction.atomic():
            for endpoint in endpoints:
                locked_endpoints().get(pk=endpoint.pk)

    lock(first)
    lock(last)  # another transaction
    lock(first, last)
    assert lock_order == []
    lock(last, first)
    thread = Meanwhile(lambda: lock(last, first))
    thread.runs()
    assert len(lock_order) == 2
    lock_order.clear()


# --- what locks -------------------------------------------------------------------------------------------------------


@pytest.mark.django_db
def test_lock_rollout__that_there_is_not__is_not_found() -> None:
    with transaction.atomic(), pytest.raises(NotFound, match="#77") as missing:
        lock_rollout(77)
    assert missing.value.code == "rollout-not-found"


@pytest.mark.django_db
def test_lock_rollout__brings_all_that_a_decision_needs__in_two_queries_more_than_its_endpoints_number() -> (
    None
):
    made = factories.rollout_progressing()
    with transaction.atomic(), CaptureQueriesContext(connection) as asked:
        found = lock_rollout(made.pk)
        assert found.baseline.version.label == "v1"
        assert found.candidate.version.label == "v2"
        assert found.endpoint.name == found.gate_policy.name.removesuffix("-default")
    assert len(asked) == 3


@pytest.mark.django_db
def test_lock_endpoints_of__workloads_of_some__gives_their_numbers_once_each_in_order() -> None:
    last = factories.endpoint("another")
    first = factories.endpoint()
    factories.variant(first, 2)
    factories.endpoint("a-third")
    rows = Workload.objects.filter(variant__endpoint__in=(first, last)).order_by("-pk")
    with transaction.atomic():
        assert lock_endpoints_of(rows) == sorted((first.pk, last.pk))


@pytest.mark.django_db
def test_in_order__an_update__changes_those_endpoints_and_no_other() -> None:
    factories.endpoint()
    other = factories.endpoint("another")
    with transaction.atomic():
        assert in_order(Endpoint.objects.filter(name="triage")).update(environment="changed") == 1
    other.refresh_from_db()
    assert other.environment == "production"
