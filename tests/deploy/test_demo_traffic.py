"""The demo's users: how many there are, and who asks."""

from __future__ import annotations

import threading
import time
from pathlib import Path

from deploy.demo.traffic import USERS, Counts, run


class Waiting:
    """Users whose engine answers nobody until `answer` is called."""

    def __init__(self) -> None:
        self.counts = Counts()
        self.answered = threading.Event()
        self.asked: list[int] = []

    def ask(self, number: int) -> None:
        self.asked.append(number)
        self.answered.wait(10)


def test_users__nobody_is_answered__no_more_ask_than_there_are_and_all_do_again_afterwards(
    tmp_path: Path,
) -> None:
    users, stopping = Waiting(), threading.Event()
    sending = threading.Thread(
        target=run,
        args=(users,),
        kwargs={"per_second": 500.0, "status": tmp_path / "status", "stopping": stopping},
    )
    sending.start()
    time.sleep(0.3)  # time for many times as many requests
    waiting = len(users.asked)
    users.answered.set()
    while len(users.asked) < 2 * USERS and sending.is_alive():
        time.sleep(0.01)
    stopping.set()
    sending.join(10)
    assert waiting == USERS
    assert len(users.asked) >= 2 * USERS
