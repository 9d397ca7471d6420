"""The request log of a cluster whose gateway tells Headgate of no request: nothing is ever found."""

from __future__ import annotations

from collections.abc import Collection, Mapping

from rollouts.ports import LoggedRequest


class UnheardRequestLog:
    """A RequestLog that knows nothing, so that feedback by a request's id is never attributed."""

    def find(self, request_ids: Collection[str]) -> Mapping[str, LoggedRequest]:
        return {}

    def rotate(self) -> bool:
        return False
