from __future__ import annotations

import pytest

from rollouts.domain.engines import EngineView, WorkloadPhase

LOADING = EngineView("chat-v2", WorkloadPhase.STARTING)


def test_engine__without_a_time_of_its_files__is_written_as_it_always_was() -> None:
    assert "files_at" not in LOADING.to_json()
    assert EngineView.from_json(LOADING.to_json()) == LOADING


def test_engine__with_a_time_of_its_files__is_read_as_it_was_written() -> None:
    fetched = EngineView("chat-v2", WorkloadPhase.STARTING, files_at=17.5)
    assert EngineView.from_json(fetched.to_json()) == fetched


def test_engine__that_was_whole__is_read_as_it_was_written_and_any_other_is_written_as_it_always_was() -> (
    None
):
    whole = EngineView("chat-v2", WorkloadPhase.READY, ready=2, desired=3, was_whole=True)
    assert EngineView.from_json(whole.to_json()) == whole
    assert "was_whole" not in LOADING.to_json()


@pytest.mark.parametrize(
    ("phase", "ready", "desired", "answers", "whole", "words"),
    [
        (WorkloadPhase.READY, 3, 3, True, True, ""),
        (WorkloadPhase.READY, 4, 3, True, True, ""),  # one more while they are replaced
        (WorkloadPhase.READY, 2, 3, True, False, "2 of 3 replicas are ready"),
        (WorkloadPhase.READY, 1, 2, True, False, "1 of 2 replicas is ready"),
        (WorkloadPhase.READY, 0, 3, False, False, ""),
        (WorkloadPhase.READY, 1, 0, True, True, ""),  # a cluster that does not say how many there should be
        (WorkloadPhase.STARTING, 2, 3, False, False, ""),
        (WorkloadPhase.DRAINING, 2, 3, False, False, ""),
    ],
)
def test_engine__with_replicas__answers_with_one_and_is_whole_with_all(
    phase: WorkloadPhase, ready: int, desired: int, answers: bool, whole: bool, words: str
) -> None:
    engine = EngineView("chat-v2", phase, ready=ready, desired=desired)
    assert (engine.is_ready, engine.is_whole, engine.short) == (answers, whole, words)
