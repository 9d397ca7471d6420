"""The broker on files: no consumer ever sees half a message."""

from __future__ import annotations

import threading
from pathlib import Path
from typing import Any

from kombu import Connection

from controlplane.config.broker import Transport, register

MESSAGES = 300


def test_filesystem_broker__read_while_it_is_written__gives_whole_messages_only(tmp_path: Path) -> None:
    register()
    for name in ("messages", "control"):
        (tmp_path / name).mkdir()
    options = {
        "data_folder_in": str(tmp_path / "messages"),
        "data_folder_out": str(tmp_path / "messages"),
        "control_folder": str(tmp_path / "control"),
        "polling_interval": 0.001,
    }

    def produce() -> None:
        with Connection("filesystem://", transport_options=options) as connection:
            queue = connection.SimpleQueue("numbers")
            for number in range(MESSAGES):
                queue.put({"number": number, "padding": "x" * 2000})
            queue.close()

    producer = threading.Thread(target=produce)
    with Connection("filesystem://", transport_options=options) as connection:
        assert isinstance(connection.transport, Transport)
        queue = connection.SimpleQueue(
            "numbers"
        )  # bound first: what is sent before that goes nowhere, by design
        producer.start()
        seen = []
        for _ in range(MESSAGES):
            message = queue.get(timeout=30)
            seen.append(message.payload["number"])
            message.ack()
        queue.close()
    producer.join()
    assert sorted(seen) == list(range(MESSAGES))
    assert list((tmp_path / "messages").iterdir()) == []


def test_filesystem_broker__many_bind_at_once__nobody_reads_half_a_table(tmp_path: Path) -> None:
    register()
    options = {
        "data_folder_in": str(tmp_path),
        "data_folder_out": str(tmp_path),
        "control_folder": str(tmp_path / "control"),
    }
    failures: list[BaseException] = []

    def bind(number: int) -> None:
        try:
            with Connection("filesystem://", transport_options=options) as connection:
                channel: Any = connection.channel()
                for turn in range(40):
                    channel._queue_bind("shared", "", "", f"queue-{number}-{turn}")
                    channel.get_table("shared")
        except BaseException as error:
            failures.append(error)

    threads = [threading.Thread(target=bind, args=(number,)) for number in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    with Connection("filesystem://", transport_options=options) as connection:
        assert failures == []
        reader: Any = connection.channel()
        assert len(reader.get_table("shared")) == 240
