"""Holds back what a page asks for, so that a test decides what comes first."""

from __future__ import annotations

import re
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field

from playwright.sync_api import Page, Route


@dataclass
class Gate:
    """Requests that wait until `open`; what comes later passes."""

    waiting: list[Route] = field(default_factory=list)
    shut: bool = True

    def meet(self, route: Route) -> None:
        if self.shut:
            self.waiting.append(route)
        else:
            route.continue_()

    def until_met(self, page: Page, number: int = 1) -> None:
        """Returns when so many wait here: a request is announced before it arrives."""
        while len(self.waiting) < number:
            page.wait_for_timeout(10)

    def refuse(self) -> None:
        """What waits is given up, as when the browser's stop button is pressed."""
        for route in self.waiting:
            route.abort("aborted")
        self.waiting = []

    def open(self) -> None:
        self.shut = False
        for route in self.waiting:
            route.continue_()


@contextmanager
def held_back(page: Page, pattern: str | re.Pattern[str]) -> Iterator[Gate]:
    """What is asked for at `pattern` in the block is asked of the server at its end."""
    gate = Gate()
    page.route(pattern, gate.meet)
    yield gate
    gate.open()
