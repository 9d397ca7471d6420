"""Random walks through the decision: whatever is seen in whatever order, the invariants hold."""

from __future__ import annotations

from dataclasses import dataclass, field, replace

from hypothesis import given, settings
from hypothesis import strategies as st

from rollouts.domain.engines import EngineView, WorkloadPhase
from rollouts.domain.lifecycle.decide import decide, pause, promote, resume
from rollouts.domain.lifecycle.decision import GLOBAL_STOP, ArmView, Decision, GatesView, RolloutView, Seen
from rollouts.domain.lifecycle.effects import DrainWorkload, SetTraffic
from rollouts.domain.lifecycle.moves import roll_back
from rollouts.domain.lifecycle.plan import Plan, Step
from rollouts.domain.lifecycle.states import ACTIVE, TRAFFIC_MOVES, Event, PauseReason, Phase, allowed_events

B, C = "chat-v1-aaaaaa", "chat-v2-bbbbbb"
TICK = 5.0
PLAN = Plan(
    strategy="canary",
    steps=(Step(500, 10, 20), Step(2_500, 10, 20), Step(5_000, 10, 20)),
    watch_seconds=60,
    no_data_seconds=60,
    deadline_seconds=600,
    launch_seconds=60,
)
PHASES = st.sampled_from(list(WorkloadPhase))
MOSTLY_READY = st.one_of(st.just(WorkloadPhase.READY), st.just(WorkloadPhase.READY), st.none(), PHASES)


@dataclass(frozen=True)
class Moment:
    """What one tick finds. None: could not be read."""

    baseline: WorkloadPhase | None
    candidate: WorkloadPhase | None
    router: str  # ok, silent, drifted, refusing
    forced: bool
    stop: bool
    gates: str  # quiet, pass, fail, kill
    requests: int
    person: str


MOMENTS = st.builds(
    Moment,
    baseline=MOSTLY_READY,
    candidate=MOSTLY_READY,
    router=st.sampled_from(["ok"] * 6 + ["silent", "drifted", "refusing"]),
    forced=st.booleans(),
    stop=st.sampled_from([False] * 5 + [True]),
    gates=st.sampled_from(["quiet"] * 4 + ["pass"] * 4 + ["fail", "kill"]),
    requests=st.integers(0, 40),
    person=st.sampled_from([""] * 12 + ["pause", "resume", "promote", "roll_back"]),
)
HEALTHY = st.builds(
    Moment,
    baseline=st.just(WorkloadPhase.READY),
    candidate=st.just(WorkloadPhase.READY),
    router=st.just("ok"),
    forced=st.just(True),
    stop=st.just(False),
    gates=st.sampled_from(["quiet", "pass"]),
    requests=st.integers(20, 40),
    person=st.just(""),
)


@dataclass
class Walk:
    """A rollout, the endpoint's desired split and the router, without any database."""

    now: float = 1_000.0
    desired: dict[str, int] = field(default_factory=lambda: {B: 10_000})
    applied: dict[str, int] = field(default_factory=lambda: {B: 10_000})
    rollout: RolloutView = field(init=False)

    def __post_init__(self) -> None:
        self.rollout = RolloutView(
            phase=Phase.PENDING,
            pause_reason=PauseReason.NONE,
            plan=PLAN,
            arms=(ArmView("baseline", B, "v1"), ArmView("candidate", C, "v2")),
            step_index=-1,
            phase_since=self.now,
            step_since=None,
            step_requests=0,
            measured_at=None,
            created_at=self.now,
        )

    def see(self, moment: Moment) -> Seen:
        silent = moment.router == "silent"
        observed = {B: 3_000, C: 7_000} if moment.router == "drifted" else self.applied
        in_force = not silent and _split(observed) == _split(self.desired)
        waits = self.applied != self.desired
        healthy = frozenset(
            name
            for name, phase in ((B, moment.baseline), (C, moment.candidate))
            if phase in (None, WorkloadPhase.READY)
        )
        engines = {B: _status(B, moment.baseline), C: _status(C, moment.candidate)}
        return Seen(
            engines={name: one for name, one in engines.items() if one is not None},
            desired_shares=dict(self.desired),
            in_force=in_force and not waits,
            routed=None if silent else frozenset({B, C}),
            healthy=frozenset() if silent else healthy,
            answered=frozenset({C}) if moment.forced and in_force else frozenset(),
            split=_split(self.applied if silent else observed),
            drift=dict(observed) if moment.router == "drifted" and not waits else None,
            rejected="no" if moment.router == "refusing" else "",
            hold=GLOBAL_STOP if moment.stop else None,
        )

    def apply(self, made: Decision) -> None:
        for effect in made.effects:
            if isinstance(effect, SetTraffic):
                self.desired = dict(effect.shares)
        moved = made.phase is not self.rollout.phase
        stepped = made.step_index != self.rollout.step_index
        promoted = moved and made.phase is Phase.SUCCEEDED
        self.rollout = replace(
            self.rollout,
            phase=made.phase,
            pause_reason=made.pause_reason,
            step_index=made.step_index,
            phase_since=self.now if moved else self.rollout.phase_since,
            step_since=None if stepped else self.rollout.step_since,
            step_requests=0 if stepped else self.rollout.step_requests,
            cause_sentence=made.cause_sentence or self.rollout.cause_sentence,
            watching=(self.rollout.watching or promoted)
            and not made.end_watch
            and made.phase is Phase.SUCCEEDED,
            watch_until=self.now + PLAN.watch_seconds if promoted else self.rollout.watch_until,
        )

    def measure(self, moment: Moment, seen: Seen) -> None:
        if moment.router != "silent" and self.rollout.phase in TRAFFIC_MOVES:
            self.rollout = replace(
                self.rollout,
                measured_at=self.now,
                step_requests=self.rollout.step_requests + moment.requests,
                step_since=self.rollout.step_since or (self.now if seen.in_force else None),
            )

    def publish(self, moment: Moment) -> None:
        if moment.router in ("ok", "drifted"):
            self.applied = dict(self.desired)


def _split(shares: dict[str, int]) -> dict[str, int]:
    return {name: share for name, share in shares.items() if share}


def _status(name: str, phase: WorkloadPhase | None) -> EngineView | None:
    if phase is None:
        return None
    return EngineView(name, phase, ready=int(phase is WorkloadPhase.READY), desired=1)


def _gates(moment: Moment) -> GatesView:
    return {
        "quiet": GatesView(waiting="Quality is open."),
        "pass": GatesView(all_required_pass=True, passed_sentence="All passed."),
        "fail": GatesView(rollback=True, cause="gate:quality", cause_sentence="Quality fell."),
        "kill": GatesView(rollback=True, cause="gates", fast_kill="90% failed."),
    }[moment.gates]


def _command(moment: Moment, rollout: RolloutView) -> Decision | None:
    """What a person may order now; the services refuse the rest."""
    moves = {
        "pause": (Event.PAUSE, lambda: pause(rollout, why=PauseReason.PERSON, sentence="ana", next_step="")),
        "resume": (Event.RESUME, lambda: resume(rollout, sentence="ana")),
        "promote": (Event.PROMOTE, lambda: promote(rollout, sentence="ana")),
        "roll_back": (Event.ROLL_BACK, lambda: roll_back(rollout, cause="person", sentence="ana")),
    }
    if moment.person not in moves or (moment.stop and moment.person in ("resume", "promote")):
        return None
    event, move = moves[moment.person]
    if rollout.phase is Phase.SUCCEEDED and not rollout.watching:
        return None
    return move() if event.value in allowed_events(rollout.phase) else None


def check(before: Walk, moment: Moment, seen: Seen, made: Decision) -> None:
    """What no decision of the loop may do."""
    rollout, gates = before.rollout, _gates(moment)
    shares = [effect.shares for effect in made.effects if isinstance(effect, SetTraffic)]
    drained = [effect.variant for effect in made.effects if isinstance(effect, DrainWorkload)]
    desired = shares[-1] if shares else before.desired
    for split in shares:
        assert sum(split.values()) == 10_000
        assert all(share >= 0 for share in split.values())
        if split.get(C, 0) > before.desired.get(C, 0) or made.event in (
            Event.START,
            Event.ADVANCE,
            Event.PROMOTE,
        ):
            ready = seen.is_ready(C)
            assert ready or made.event is Event.RESUME or split.get(C, 0) == 0
            assert seen.hold is None
            assert seen.drift is None
    for name in drained:
        assert desired.get(name, 0) == 0
    if made.event is Event.PROMOTE:
        assert gates.all_required_pass
        assert rollout.step_index == len(PLAN.steps) - 1
    if made.event in (Event.START, Event.ADVANCE):
        assert made.step_index == rollout.step_index + 1
    if made.event is Event.RETURN:
        assert seen.in_force
        assert _split(before.desired) == {B: 10_000}
    if rollout.phase not in ACTIVE and rollout.phase is not Phase.SUCCEEDED:
        assert made.event is None
        assert made.effects == ()
    if rollout.phase in TRAFFIC_MOVES and (gates.rollback or gates.fast_kill):
        assert made.event is Event.ROLL_BACK
    if seen.routed is None and not seen.engines and made.event is not None:
        # All is unknown: only a new rollout is launched, traffic is sent back, or a stop or deadline holds it.
        assert made.event in (Event.PROVISION, Event.ROLL_BACK, Event.PAUSE)
        assert not shares


def walk(moments: list[Moment]) -> Walk:
    state = Walk()
    for moment in moments:
        order = _command(moment, state.rollout)
        if order is not None:
            state.apply(order)
        state.now += TICK
        seen = state.see(moment)
        state.measure(moment, seen)
        made = decide(state.rollout, seen, _gates(moment), state.now)
        assert made == decide(state.rollout, seen, _gates(moment), state.now)
        check(state, moment, seen, made)
        state.apply(made)
        state.publish(moment)
        assert sum(state.desired.values()) == 10_000
    return state


@settings(max_examples=250, deadline=None)
@given(st.lists(MOMENTS, max_size=60))
def test_decide__any_walk__keeps_the_invariants(moments: list[Moment]) -> None:
    walk(moments)


@settings(max_examples=100, deadline=None)
@given(st.lists(HEALTHY, min_size=10, max_size=25), st.lists(MOMENTS, max_size=40))
def test_decide__any_walk_after_a_good_start__keeps_the_invariants(
    good: list[Moment], rest: list[Moment]
) -> None:
    walk(good + rest)


GOOD = Moment(WorkloadPhase.READY, WorkloadPhase.READY, "ok", True, False, "pass", 30, "")


@settings(max_examples=100, deadline=None)
@given(st.lists(MOMENTS.filter(lambda m: m.gates in ("quiet", "pass") and m.person != "pause"), max_size=20))
def test_decide__after_any_trouble_that_ends__the_rollout_ends_too(trouble: list[Moment]) -> None:
    """Nothing leaves a rollout stuck: once all is well (and somebody resumes), it is decided."""
    state = walk([*trouble, replace(GOOD, person="resume"), *[GOOD] * 40])
    assert state.rollout.phase not in ACTIVE
    if state.rollout.phase is Phase.SUCCEEDED:
        assert _split(state.applied) == {C: 10_000}
    elif state.rollout.phase is Phase.ROLLED_BACK:
        assert _split(state.applied) == {B: 10_000}
