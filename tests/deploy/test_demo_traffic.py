"""The demo's users: how many there are, and who asks."""

from __future__ import annotations

import threading
import time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest

from deploy.demo.traffic import USERS, Counts, Users, run


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


@pytest.mark.parametrize(
    ("host", "path"), [("", "/chat/v1/chat/completions"), ("chat.lab.test", "/v1/chat/completions")]
)
def test_users__endpoint_with_or_without_a_name_of_its_own__ask_where_it_is(host: str, path: str) -> None:
    seen: list[tuple[str, str]] = []

    class Gateway(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            seen.append((self.path, self.headers["Host"]))
            self.send_error(404)

        def log_message(self, format: str, *args: object) -> None:
            """Says nothing."""

    server = ThreadingHTTPServer(("127.0.0.1", 0), Gateway)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    address = f"127.0.0.1:{server.server_address[1]}"
    tickets = [{"messages": [{"role": "user", "content": "q"}], "max_tokens": 2, "expected": "a"}]
    try:
        users = Users(
            gateway=f"http://{address}", host=host, endpoint="chat", api="http://127.0.0.1:9", token="hg_x",
            tickets=tickets,
        )  # fmt: skip
        users.ask(1)
    finally:
        server.shutdown()
        server.server_close()
    assert seen == [(path, host or address)]
