"""The request log of the data plane in memory."""

from __future__ import annotations

from collections.abc import Collection, Mapping

from rollouts.adapters.routers.memory import MemoryRouter
from rollouts.ports import LoggedRequest


class MemoryRequestLog:
    """A RequestLog over the requests that a MemoryRouter was sent."""

    def __init__(self, router: MemoryRouter) -> None:
        self._router = router

    def find(self, request_ids: Collection[str]) -> Mapping[str, LoggedRequest]:
        return {name: self._router.log[name] for name in request_ids if name in self._router.log}

    def rotate(self) -> bool:
        return False  # it is as long as a test
