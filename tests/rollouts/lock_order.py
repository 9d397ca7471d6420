"""Watches the order in which a transaction locks endpoints, rollouts and workloads (see `rollouts.services.locks`)."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

from django.db import connection

Execute = Callable[[str, Any, bool, dict[str, Any]], Any]
LOCKS = re.compile(r'^(?:UPDATE "(\w+)"|SELECT .*? FROM "(\w+)".* FOR (?:NO KEY )?UPDATE)', re.DOTALL)
ENDPOINT = "rollouts_endpoint"
LATER = {"rollouts_rollout": "a rollout", "rollouts_workload": "a workload"}


class LockOrder:
    """Raises AssertionError at the statement that locks an endpoint after a rollout or a workload in one transaction.

    A test's own transaction is none of the product's: what counts begins with the first savepoint in it.
    """

    def __init__(self) -> None:
        self._savepoints: list[str] = []
        self._first = ""
        self._endpoint = False

    def __call__(self, execute: Execute, sql: str, params: Any, many: bool, context: dict[str, Any]) -> Any:
        words = sql.split()
        if words[0] == "SAVEPOINT":
            if not self._savepoints:
                self._first, self._endpoint = "", False
            self._savepoints.append(words[1])
        elif words[:2] == ["RELEASE", "SAVEPOINT"] and words[2] in self._savepoints:
            del self._savepoints[self._savepoints.index(words[2]) :]
        elif self._savepoints and (found := LOCKS.match(sql)):
            self._note(found[1] or found[2], sql)
        return execute(sql, params, many, context)

    def _note(self, table: str, sql: str) -> None:
        if table == ENDPOINT:
            assert not self._first, f"locks the endpoint after {self._first}: {sql}"
            self._endpoint = True
        elif table in LATER and not self._endpoint:
            self._first = LATER[table]


@contextmanager
def lock_order_watched() -> Iterator[None]:
    """On PostgreSQL: SQLite locks no rows, so that a statement there does not say what it locks."""
    if connection.vendor != "postgresql":
        yield
        return
    with connection.execute_wrapper(LockOrder()):
        yield
