"""What `up` does in front of a stack that runs already. No process runs here."""

from __future__ import annotations

from pathlib import Path
from typing import Any, cast

import pytest

from controlplane.config.environment import Environment
from controlplane.kernel.errors import Refused, Unavailable
from deploy.stack import runner
from rollouts.adapters.clusters.supervisord import RESTING_STATES, ProgramInfo, Supervisor


class Running:
    """A process manager that runs a changed web server, and notes what it is asked to do."""

    def __init__(self) -> None:
        self.asked: list[str] = []

    def is_up(self) -> bool:
        return True

    def reload(self) -> tuple[set[str], set[str], set[str]]:
        self.asked.append("reload")
        return set(), {"web"}, set()

    def stop(self, name: str) -> None:
        self.asked.append(f"stop {name}")

    def remove(self, name: str) -> None:
        self.asked.append(f"remove {name}")

    def programs(self) -> dict[str, ProgramInfo]:
        state = next(iter(RESTING_STATES))
        return {"web": ProgramInfo("web", state, 0, 0, 0, "", "")}


@pytest.fixture
def environment(tmp_path: Path) -> Environment:
    return Environment(run_dir=tmp_path, mlflow_url="http://127.0.0.1:19412")


@pytest.mark.needs("envoy")
def test_up__stack_runs_and_the_engines_user_cannot_be_used__refused_before_anything_changes(
    environment: Environment, monkeypatch: pytest.MonkeyPatch
) -> None:
    running = Running()

    def never(*arguments: Any) -> None:
        running.asked.append("manage")

    def refuse(environment: Environment) -> list[str]:
        return ["This machine has no such user."]

    monkeypatch.setattr(runner, "Supervisor", lambda path: running)
    monkeypatch.setattr(runner, "_manage", never)
    monkeypatch.setattr(runner, "engine_user_problems", refuse)
    with pytest.raises(Refused, match="no such user"):
        runner.up(environment, lambda line: None)
    assert running.asked == []


def test_apply_changes__process_that_nothing_ends__unavailable_with_the_remedy(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def lives_on(*arguments: object, **others: object) -> None:
        raise TimeoutError("Process 7 does not end.")

    monkeypatch.setattr(runner, "end_marked", lives_on)
    running = Running()
    with pytest.raises(Unavailable, match="Process 7 does not end") as caught:
        runner._apply_changes(cast(Supervisor, running), tmp_path, lambda line: None)
    assert "restart of the machine" in caught.value.fix
    assert "remove web" not in running.asked
