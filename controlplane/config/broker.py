"""Celery's broker without a server: kombu's filesystem transport, with messages that appear whole.

kombu writes a message into the very file that a consumer looks for; a consumer that is quicker reads an empty file,
and the worker ends with a JSONDecodeError (kombu issue 1551; here three times in eight minutes of a busy machine).
"""

from __future__ import annotations

import uuid
from pathlib import Path
from time import monotonic
from typing import Any

from kombu.exceptions import ChannelError
from kombu.transport import TRANSPORT_ALIASES, filesystem
from kombu.utils.json import dumps


class Channel(filesystem.Channel):
    """The same files; a message gets its name once it is written."""

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
