"""The command as a pipeline runs it, against a stand-in of the control plane."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import pytest

from controlplane.cli import client
from controlplane.cli.main import main
from tests.controlplane.cli.stand_in import Answer, StandIn


@dataclass(frozen=True)
class Outcome:
    """How the command ended and what it printed."""

    code: int
    out: str
    err: str

    @property
    def json(self) -> dict[str, Any]:
        return json.loads(self.out)  # type: ignore[no-any-return]


Run = Callable[..., Outcome]


@pytest.fixture
def serve(
    monkeypatch: pytest.MonkeyPatch,
) -> Iterator[Callable[[Callable[[str, str, Any], Answer]], StandIn]]:
    """Starts a stand-in and points the command to it; patience between attempts is short."""
    started: list[StandIn] = []
    monkeypatch.setattr(client, "FIRST_WAIT_SECONDS", 0.01)

    def start(answer: Callable[[str, str, Any], Answer]) -> StandIn:
        stand_in = StandIn(answer)
        stand_in.start()
        started.append(stand_in)
        monkeypatch.setenv("HEADGATE_URL", stand_in.url)
        monkeypatch.setenv("HEADGATE_TOKEN", "hg_of-a-test")
        return stand_in

    yield start
    for stand_in in started:
        stand_in.stop()


@pytest.fixture
def run(capsys: pytest.CaptureFixture[str]) -> Run:
    """Runs a command line; a usage error that argparse ends is an outcome, too."""

    def call(*argv: str) -> Outcome:
        try:
            code = main(argv)
        except SystemExit as ended:
            code = int(ended.code or 0)
        out, err = capsys.readouterr()
        return Outcome(int(code), out, err)

    return call
