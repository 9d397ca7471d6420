from __future__ import annotations

from rollouts.domain.engines import EngineView, WorkloadPhase

LOADING = EngineView("chat-v2", WorkloadPhase.STARTING)


def test_engine__without_a_time_of_its_files__is_written_as_it_always_was() -> None:
    assert "files_at" not in LOADING.to_json()
    assert EngineView.from_json(LOADING.to_json()) == LOADING


def test_engine__with_a_time_of_its_files__is_read_as_it_was_written() -> None:
    fetched = EngineView("chat-v2", WorkloadPhase.STARTING, files_at=17.5)
    assert EngineView.from_json(fetched.to_json()) == fetched
