"""Many sign-ins at the same moment, each on a connection of its own; prints as JSON what came of them.

`python -m tests.controlplane.access.at_once` does it on a database file of its own, as the demo has it.
"""

from __future__ import annotations

import json
import os
import threading
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime
from unittest.mock import patch

TRIES = 40
PASSWORD = "the right one, and long"


def sign_in_at_once(*, right: bool = False) -> dict[str, int]:
    """How TRIES wrong (or right) passwords of one person from one address ended, and how many were hashed."""
    from django.db import connection

    from controlplane.access import hashing, sign_in

    hashed: Counter[str] = Counter()
    together = threading.Barrier(TRIES)
    check = hashing.person_with

    def counted(*, username: str, password: str) -> object:
        hashed["hashed"] += 1
        return check(username=username, password=password)

    def attempt(_: int) -> str:
        together.wait()
        try:
            sign_in.check_sign_in(
                username="ana",
                password=PASSWORD if right else "wrong",
                address="203.0.113.9",
                now=datetime.now(UTC),
            )
        except sign_in.SignInRefused as refused:
            return "too many" if refused.wait_seconds else "wrong"
        except hashing.TooBusy:
            return "busy"
        finally:
            connection.close()
        return "in"

    with patch.object(sign_in, "person_with", counted), ThreadPoolExecutor(TRIES) as pool:
        ends = Counter(pool.map(attempt, range(TRIES)))
    return {**ends, **hashed}


if __name__ == "__main__":
    os.environ.setdefault("DJANGO_SETTINGS_MODULE", "controlplane.config.settings_test")
    import django

    django.setup()
    from django.core.management import call_command

    from controlplane.access.services import ensure_user

    call_command("migrate", "access", verbosity=0)
    ensure_user(username="ana", role="viewer", password=PASSWORD)
    print(json.dumps(sign_in_at_once()))
