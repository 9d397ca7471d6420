"""A database that is put back to an earlier moment, while the router and the cluster of a world in memory went on."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from django.apps import apps
from django.db import connection

from rollouts.models import Endpoint, Variant
from rollouts.services.commands.restored_choice import choose_after_restore
from rollouts.services.loop.restored import QUIET_SECONDS
from tests.rollouts.memory_world import PLAN, MemoryWorld


class Copy:
    """All that the database holds at a moment, and the way back to it."""

    def __init__(self) -> None:
        self._tables = [
            model._meta.db_table
            for app in ("timekeeping", "passes", "web", "audit", "registry", "rollouts")
            for model in apps.get_app_config(app).get_models()
        ]
        with connection.cursor() as cursor:
            self._rows = {table: self._read(cursor, table) for table in self._tables}

    @staticmethod
    def _read(cursor: Any, table: str) -> tuple[list[str], list[Any]]:
        cursor.execute(f'SELECT * FROM "{table}"')
        return [column[0] for column in cursor.description], cursor.fetchall()

    def restore(self) -> None:
        """Every row as it was. Foreign keys are checked when the test ends."""
        with connection.cursor() as cursor:
            for table in self._tables:
                cursor.execute(f'DELETE FROM "{table}"')
            for table, (columns, rows) in self._rows.items():
                names = ", ".join(f'"{name}"' for name in columns)
                marks = ", ".join(["%s"] * len(columns))
                for row in rows:
                    cursor.execute(f'INSERT INTO "{table}" ({names}) VALUES ({marks})', row)


def promote_2(w: MemoryWorld) -> None:
    """Version 2 is promoted and the watch is over: version 1 is gone."""
    w.start(2, plan=replace(PLAN, watch_seconds=1))
    promote_now(w)


def promote_now(w: MemoryWorld) -> None:
    w.run_to("progressing")
    w.promote()
    w.run(lambda: w.rollout.phase == "succeeded" and not w.rollout.watching, limit=20)
    run(w, 3)
    assert w.shares() == {2: 10_000}


def restored_before_the_promotion(w: MemoryWorld) -> str:
    """The copy is older than version 2's variant; its name is returned."""
    copy = Copy()
    promote_2(w)
    name = w.variant(2).name
    copy.restore()
    assert not Variant.objects.filter(name=name).exists()
    return name


def restored_before_the_end(w: MemoryWorld) -> None:
    """The copy believes that version 2's rollout goes on, which was promoted since."""
    w.start(2)
    w.run_to("progressing")
    copy = Copy()
    promote_now(w)
    copy.restore()


def choose(w: MemoryWorld, choice: Any, **options: Any) -> Endpoint:
    return choose_after_restore(endpoint_name="triage", choice=choice, actor=w.manager, now=w.now, **options)


def route(w: MemoryWorld) -> dict[str, int]:
    return {name: bp for name, bp in w.router.routes["triage"].shares.items() if bp}


def wait_until_quiet(w: MemoryWorld) -> None:
    """Half a minute, in fewer turns than it has seconds."""
    assert QUIET_SECONDS <= 24
    for _ in range(8):
        w.tick(4.0, probe=False)


def run(w: MemoryWorld, seconds: int) -> None:
    for _ in range(seconds):
        w.tick(probe=False)
