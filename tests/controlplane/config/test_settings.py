"""What the settings make of the environment."""

from __future__ import annotations

from controlplane.config.settings import _database


def test_database__on_postgresql__is_waited_for_shorter_than_a_probe_waits() -> None:
    """A server whose machine is gone answers nothing; without a bound, connecting takes minutes."""
    assert 1 < _database("postgresql://h:unused@localhost/h")["OPTIONS"]["connect_timeout"] <= 5
