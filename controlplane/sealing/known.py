"""Secrets that this process has had in its hands, so that its log can leave them out."""

from __future__ import annotations

import threading
from collections import OrderedDict

MOST = 500
SHORTEST = 6  # a shorter one would be found in times and numbers all over the log
_known: OrderedDict[str, None] = OrderedDict()
_lock = threading.Lock()


def remember(*secrets: str) -> None:
    """Notes secrets; of very many the newest are kept, and very short ones are left out."""
    with _lock:
        for secret in secrets:
            if len(secret) >= SHORTEST:
                _known[secret] = None
                _known.move_to_end(secret)
        while len(_known) > MOST:
            _known.popitem(last=False)


def known() -> tuple[str, ...]:
    with _lock:
        return tuple(_known)
