"""Watches in which order a transaction locks the endpoint and its rollouts (see `rollouts.services.locks`)."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

from django.db import connection

Execute = Callable[[str, Any, bool, dict[str, Any]], Any]
LOCKS = re.compile(r'^(?:UPDATE "(\w+)"|SELECT .* FROM "(\w+)".* FOR (?:NO KEY )?UPDATE)', re.DOTALL)
ENDPOINT, ROLLOUT = "rollouts_endpoint", "rollouts_rollout"


class LockOrder:
    """Raises AssertionError at the statement that locks an endpoint after a rollout in one transaction.

    A test's own transaction is none of the product's: what counts begins with the first savepoint in it.
    """

    def __init__(self) -> None:
        self._savepoints: list[str] = []
        self._rollout_first = False
        self._endpoint = False

    def __call__(self, execute: Execute, sql: str, params: Any, many: bool, context: dict[str, Any]) -> Any:
        words = sql.split()
        if words[0] == "SAVEPOINT":
            if not self._savepoints:
                self._rollout_first = self._endpoint = False
            self._savepoints.append(words[1])
        elif words[:2] == ["RELEASE", "SAVEPOINT"] and words[2] in self._savepoints:
            del self._savepoints[self._savepoints.index(words[2]) :]
        elif self._savepoints and (found := LOCKS.match(sql)):
            self._note(found[1] or found[2], sql)
        return execute(sql, params, many, context)

    def _note(self, table: str, sql: str) -> None:
        if table == ENDPOINT:
            assert not self._rollout_first, f"locks the endpoint after a rollout: {sql}"
            self._endpoint = True
        elif table == ROLLOUT and not self._endpoint:
            self._rollout_first = True


@contextmanager
def lock_order_watched() -> Iterator[None]:
    """On PostgreSQL: SQLite locks no rows, so that a statement there does not say what it locks."""
    if connection.vendor != "postgresql":
        yield
        return
    with connection.execute_wrapper(LockOrder()):
        yield
