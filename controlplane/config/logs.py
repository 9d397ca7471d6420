"""What is written to the log: every line without secrets."""

from __future__ import annotations

import logging

from controlplane.kernel.credentials import hide
from controlplane.sealing.known import known


class HidingFormatter(logging.Formatter):
    """The last net: takes secrets that this process knows, and what looks like a credential, out of a whole record,
    its traceback too. Whoever logs is not to rely on it."""

    def __init__(self, format: str) -> None:
        super().__init__(format)

    def format(self, record: logging.LogRecord) -> str:
        return hide(super().format(record), known())
