"""Celery's broker without a server: kombu's filesystem transport, with messages that appear whole.

kombu writes a message into the very file that a consumer looks for; a consumer that is quicker reads an empty file,
and the worker ends with a JSONDecodeError (kombu issue 1551; here three times in eight minutes of a busy machine).
The tables of exchanges have the same fault, which hits who starts at the same moment as another.
"""

from __future__ import annotations

import fcntl
import uuid
from pathlib import Path
from time import monotonic
from typing import Any

from kombu.exceptions import ChannelError
from kombu.transport import TRANSPORT_ALIASES, filesystem
from kombu.utils.json import dumps


class Channel(filesystem.Channel):
    """The same files; a message, and the table of an exchange's queues, get their name once they are written."""

    def _queue_bind(self, exchange: Any, routing_key: Any, pattern: Any, queue: Any) -> None:
        """Adds a queue to its exchange. kombu empties the table before it locks it, and whoever reads it then fails."""
        table = Path(self._exchange_file(exchange))  # type: ignore[attr-defined]  # the stubs lack it
        table.parent.mkdir(exist_ok=True)
        value = filesystem.exchange_queue_t(routing_key or "", pattern or "", queue or "")
        with table.with_name(table.name + ".lock").open("w") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX)
            queues = self.get_table(exchange)
            if value not in queues:
                part = table.with_name(table.name + ".part")
                part.write_text(dumps([value, *queues]))
                part.replace(table)

    # kombu's own two declarations name the second parameter differently.
    def _put(self, queue: str, payload: Any, **_: Any) -> None:  # type: ignore[override]
        name = f"{round(monotonic() * 1000)}_{uuid.uuid4()}.{queue}.msg"
        whole = Path(self.data_folder_out) / name
        part = whole.with_name(name + ".part")  # consumers look for names that end in the queue's
        try:
            part.write_bytes(dumps(payload).encode())
            part.replace(whole)
        except OSError as error:
            raise ChannelError(f"The message {whole} cannot be written: {error}") from error


class Transport(filesystem.Transport):
    """What `filesystem://` means once `register` was called."""

    Channel = Channel


def register() -> None:
    """Makes kombu use this transport for filesystem:// addresses."""
    TRANSPORT_ALIASES["filesystem"] = f"{__name__}:{Transport.__name__}"
