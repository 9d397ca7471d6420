"""What brings the world back to what was decided never moves a share."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from rollouts.domain.engines import EngineView, WorkloadPhase
from rollouts.domain.lifecycle.convergence import keep_stable, relaunch
from rollouts.domain.lifecycle.effects import EnsureWorkload, SetTraffic

V1 = "chat-v1-aaaaaa"
READY = EngineView(V1, WorkloadPhase.READY, ready=1, desired=1)
ENGINES = st.one_of(
    st.none(), st.builds(EngineView, st.just(V1), st.sampled_from(WorkloadPhase), ready=st.integers(0, 2))
)
NAMES = st.sets(st.sampled_from("abcd"))
SPLITS = st.dictionaries(st.sampled_from([V1, "chat-v2-bbbbbb"]), st.integers(0, 10_000), min_size=1)


@given(engine=ENGINES, wanted=st.booleans(), waits=st.booleans(), shares=SPLITS)
def test_keep_stable__endpoint_that_has_a_route__never_moves_a_share(
    engine: EngineView | None, wanted: bool, waits: bool, shares: dict[str, int]
) -> None:
    effects = keep_stable(V1, engine, wanted=wanted, launch_waits=waits, desired_shares=shares)
    assert not [effect for effect in effects if isinstance(effect, SetTraffic)]


def test_keep_stable__first_route__is_all_to_the_stable_variant_once_it_is_ready() -> None:
    effects = keep_stable(V1, READY, wanted=True, launch_waits=False, desired_shares={})
    assert effects[0] == SetTraffic({V1: 10_000}, V1)
    for unknown in (None, EngineView(V1, WorkloadPhase.STARTING)):
        assert keep_stable(V1, unknown, wanted=True, launch_waits=False, desired_shares={}) == ()


def test_keep_stable__not_to_run_any_more__is_launched_once() -> None:
    shares = {V1: 10_000}
    asked = keep_stable(V1, None, wanted=False, launch_waits=False, desired_shares=shares)
    assert asked == (EnsureWorkload(V1),)
    assert keep_stable(V1, None, wanted=False, launch_waits=True, desired_shares=shares) == ()


@given(names=NAMES, known=NAMES, asked=NAMES)
def test_relaunch__only_what_is_wanted_unknown_and_not_asked_for(
    names: set[str], known: set[str], asked: set[str]
) -> None:
    again = relaunch(sorted(names), known, asked)
    assert {effect.variant for effect in again if isinstance(effect, EnsureWorkload)} == names - known - asked
    assert all(isinstance(effect, EnsureWorkload) for effect in again)
