"""Secrets that this process has had in its hands, so that its log can leave them out."""

from __future__ import annotations

import threading
from collections import OrderedDict

MOST = 500
_known: OrderedDict[str, None] = OrderedDict()
_lock = threading.Lock()


def remember(*secrets: str) -> None:
    """Notes secrets; of very many the newest are kept."""
    with _lock:
        for secret in secrets:
            if secret:
                _known[secret] = None
                _known.move_to_end(secret)
        while len(_known) > MOST:
            _known.popitem(last=False)


def known() -> tuple[str, ...]:
    with _lock:
        return tuple(_known)
