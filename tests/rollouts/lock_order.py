"""Watches the order in which a transaction locks endpoints, rollouts and the rest (see `rollouts.services.locks`)."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import pytest
from django.db import DEFAULT_DB_ALIAS, connection, connections, transaction
from django.db.backends.base.base import BaseDatabaseWrapper
from django.db.backends.signals import connection_created

Execute = Callable[[str, Any, bool, dict[str, Any]], Any]
LOCKS = re.compile(
    r'^(?:UPDATE "(\w+)"|DELETE FROM "(\w+)"|SELECT .*? FROM "(\w+)".* FOR (?:NO KEY )?UPDATE)', re.DOTALL
)
ENDPOINT, ROLLOUT = "rollouts_endpoint", "rollouts_rollout"
REST = {"rollouts_workload": "a workload", "rollouts_arm": "an arm", "rollouts_effect": "an effect"}
# The numbers of rows as our statements name them: one, several, or one at the head of every row of values.
ONE = re.compile(r'(?:"rollouts_\w+"|U0)\."id" = %s')
SEVERAL = re.compile(r'(?:"rollouts_\w+"|U0)\."id" IN \(((?:%s(?:, )?)+)\)')
VALUES = re.compile(r"FROM \(VALUES (.*)\) AS new ")
BY_NUMBER = re.compile(r'ORDER BY (?:1|(?:"rollouts_\w+"|U0)\."id") ASC.* FOR (?:NO KEY )?UPDATE', re.DOTALL)
BY_NAME = re.compile(r'"rollouts_endpoint"\."name" = %s')  # no two have the same


class Rows:
    """Rows of one table that a transaction has locked.

    unseen  it locked some whose numbers no statement showed: nothing can be said of their order
    """

    def __init__(self) -> None:
        self.numbers: set[int] = set()
        self.unseen = False

    def lock(self, numbers: set[int] | None) -> set[int] | None:
        """Those of these rows that were not locked before; None when that cannot be told."""
        if numbers is None:
            self.unseen = True
            return None
        new = numbers - self.numbers
        self.numbers |= numbers
        return new

    @property
    def some(self) -> bool:
        return self.unseen or bool(self.numbers)


class LockOrder:
    """Raises AssertionError at the statement that locks, in one transaction,

    - an endpoint after a rollout, an arm, an effect or a workload, without having locked any endpoint before;
    - an endpoint after one with a larger number, or several in no order, where the statements show it;
    - a rollout after an arm, an effect or a workload.

    own     a transaction of the test is around the product's, which then begin with a savepoint; else they are told
            apart by `begins`
    What it raises is kept, too: the product takes an error for one of the item that it is at work on, and goes on.
    """

    def __init__(self, *, own: bool = True, found: list[str] | None = None) -> None:
        self.found = [] if found is None else found
        self._own = own
        self._savepoints: list[str] = []
        self.begins()

    def begins(self) -> None:
        """Another transaction, which holds nothing yet."""
        self._endpoints, self._rollouts = Rows(), Rows()
        self._rest = ""

    def is_outside(self) -> None:
        """The savepoints so far are the test's: what comes is outside of the product's transactions."""
        self._savepoints.clear()

    def __call__(self, execute: Execute, sql: str, params: Any, many: bool, context: dict[str, Any]) -> Any:
        words = sql.split()
        if words[0] == "SAVEPOINT":
            if self._own and not self._savepoints:
                self.begins()
            self._savepoints.append(words[1])
        elif words[:2] == ["RELEASE", "SAVEPOINT"] and words[2] in self._savepoints:
            del self._savepoints[self._savepoints.index(words[2]) :]
        elif self._is_inside(context) and (locked := LOCKS.match(sql)):
            self._note(locked[1] or locked[2] or locked[3], sql, params or ())
        return execute(sql, params, many, context)

    def _is_inside(self, context: dict[str, Any]) -> bool:
        """Whether the statement belongs to a transaction of the product. Tests arrange things outside."""
        return bool(self._savepoints) if self._own else context["connection"].in_atomic_block

    def _note(self, table: str, sql: str, params: Sequence[Any]) -> None:
        if table == ENDPOINT:
            self._note_endpoints(sql, params)
        elif table == ROLLOUT:
            unseen, new = self._rollouts.unseen, self._rollouts.lock(numbers_in(sql, params))
            if self._rest and not unseen and new != set():
                self._refuse(f"locks a rollout after {self._rest}", sql)
        elif table in REST:
            self._rest = self._rest or REST[table]

    def _note_endpoints(self, sql: str, params: Sequence[Any]) -> None:
        before, unseen = set(self._endpoints.numbers), self._endpoints.unseen
        new = self._endpoints.lock(numbers_in(sql, params))
        if not before and not unseen and (self._rollouts.some or self._rest):
            self._refuse(
                f"locks the endpoint after {'a rollout' if self._rollouts.some else self._rest}", sql
            )
        if (
            unseen or new == set() or "SKIP LOCKED" in sql
        ):  # held already, as far as it shows; or waits for nobody
            return
        if new is None:
            if BY_NAME.search(sql) is None and BY_NUMBER.search(sql) is None:
                self._refuse("locks endpoints in no order", sql)
            if before:
                self._refuse(f"locks any endpoints after {max(before)}", sql)
            return
        if len(new) > 1 and BY_NUMBER.search(sql) is None:
            self._refuse("locks several endpoints in no order", sql)
        if before and min(new) < max(before):
            self._refuse(f"locks endpoint {min(new)} after {max(before)}", sql)

    def _refuse(self, words: str, sql: str) -> None:
        self.found.append(f"{words}: {sql}")
        raise AssertionError(self.found[-1])


def numbers_in(sql: str, params: Sequence[Any]) -> set[int] | None:
    """The numbers of the rows that a statement locks, or at most locks; None when it does not show them."""
    values = VALUES.search(sql)
    if values is not None:
        width = values[1].split(")")[0].count("%s")
        first = sql[: values.start(1)].count("%s")
        return {int(params[place]) for place in range(first, first + values[1].count("%s"), width)}
    one, several = ONE.search(sql), SEVERAL.search(sql)
    if one is not None:
        return {int(params[sql[: one.start()].count("%s")])}
    if several is not None:
        first = sql[: several.start(1)].count("%s")
        return {int(number) for number in params[first : first + several[1].count("%s")]}
    return None


@contextmanager
def taken_back() -> Iterator[None]:
    """A transaction of the test around several of the product's, whose writes are taken back at its end."""
    with transaction.atomic():
        for one in connection.execute_wrappers:
            if isinstance(one, LockOrder):
                one.is_outside()
        try:
            yield
        finally:
            transaction.set_rollback(True)


@contextmanager
def lock_order_watched(*, own: bool = True) -> Iterator[list[str]]:
    """Watches until the end, and raises AssertionError then when the product kept one to itself: what was found is in
    the list.

    own     as of `LockOrder`. Without it, connections that other threads make meanwhile are watched, too

    On PostgreSQL: SQLite locks no rows, so that a statement there does not say what it locks.
    """
    found: list[str] = []
    if connection.vendor != "postgresql":
        yield found
        return
    watched = connection.execute_wrapper(LockOrder(found=found)) if own else _every_connection_watched(found)
    with watched:
        yield found
    assert found == []


@contextmanager
def _every_connection_watched(found: list[str]) -> Iterator[None]:
    with pytest.MonkeyPatch.context() as patch:

        def watch(database: BaseDatabaseWrapper) -> None:
            order, begins_or_ends = LockOrder(own=False, found=found), database.set_autocommit

            def set_autocommit(*args: Any, **options: Any) -> None:
                order.begins()
                begins_or_ends(*args, **options)

            # Django tells nobody that a transaction begins; this is how it begins one.
            patch.setattr(database, "set_autocommit", set_autocommit)
            patch.setattr(database, "execute_wrappers", [*database.execute_wrappers, order])

        def connected(connection: BaseDatabaseWrapper, **_: Any) -> None:
            if not any(isinstance(one, LockOrder) for one in connection.execute_wrappers):
                watch(connection)

        watch(connections[DEFAULT_DB_ALIAS])
        connection_created.connect(connected)
        try:
            yield
        finally:
            connection_created.disconnect(connected)
