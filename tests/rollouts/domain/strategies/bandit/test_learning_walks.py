"""Random walks of a bandit: whatever is seen and learned in whatever order, the invariants hold."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace

from hypothesis import given, settings
from hypothesis import strategies as st

from rollouts.domain.bandits import BanditSpec
from rollouts.domain.engines import EngineView, WorkloadPhase
from rollouts.domain.lifecycle.decide import decide, pause, promote, resume
from rollouts.domain.lifecycle.decision import (
    GLOBAL_STOP,
    ArmView,
    Decision,
    Drop,
    GatesView,
    RaceView,
    RolloutView,
    Seen,
)
from rollouts.domain.lifecycle.effects import DrainWorkload, SetTraffic
from rollouts.domain.lifecycle.moves import roll_back
from rollouts.domain.lifecycle.plan import Plan
from rollouts.domain.lifecycle.states import ACTIVE, TRAFFIC_MOVES, Event, PauseReason, Phase, allowed_events

B = "chat-v1-aaaaaa"
CANDIDATES = {"candidate": "chat-v2-bbbbbb", "candidate-2": "chat-v3-cccccc", "candidate-3": "chat-v4-dddddd"}
VARIANTS = {"baseline": B, **CANDIDATES}
NAMES = {variant: name for name, variant in VARIANTS.items()}
TICK = 5.0
PLAN = Plan(
    strategy="bandit",
    steps=(),
    settings=BanditSpec(),
    watch_seconds=60,
    no_data_seconds=60,
    deadline_seconds=600,
    launch_seconds=60,
)
PHASES = st.sampled_from(list(WorkloadPhase))
MOSTLY_READY = st.one_of(*[st.just(WorkloadPhase.READY)] * 8, st.none(), PHASES)


@dataclass(frozen=True)
class Moment:
    """What one tick finds. A phase of None: could not be read.

    leaves      the candidate that evidence or a guardrail puts out now, or ""
    weights     what the evidence wants, one weight an arm; None: as before
    """

    phases: tuple[WorkloadPhase | None, ...]
    router: str  # ok, silent, drifted, refusing
    answered: tuple[bool, ...]
    stop: bool
    leaves: str
    passes: bool
    weights: tuple[int, ...] | None
    kill: bool
    person: str
    choice: str


FOUR = st.tuples(*[MOSTLY_READY] * 4)
CHOICES = st.sampled_from(["", *CANDIDATES])
MOMENTS = st.builds(
    Moment,
    phases=FOUR,
    router=st.sampled_from(["ok"] * 6 + ["silent", "drifted", "refusing"]),
    answered=st.tuples(*[st.booleans()] * 3),
    stop=st.sampled_from([False] * 5 + [True]),
    leaves=st.sampled_from([""] * 6 + list(CANDIDATES)),
    passes=st.booleans(),
    weights=st.one_of(st.none(), st.tuples(*[st.integers(1, 20)] * 4)),
    kill=st.sampled_from([False] * 20 + [True]),
    person=st.sampled_from([""] * 12 + ["pause", "resume", "promote", "roll_back"]),
    choice=CHOICES,
)
GOOD = Moment(
    (WorkloadPhase.READY,) * 4, "ok", (True,) * 3, False, "", True, None, kill=False, person="", choice=""
)
HEALTHY = st.builds(
    lambda leaves, weights: replace(GOOD, leaves=leaves, weights=weights, passes=False),
    leaves=st.sampled_from([""] * 12 + list(CANDIDATES)),
    weights=st.one_of(st.none(), st.tuples(*[st.integers(1, 20)] * 4)),
)


@dataclass
class Walk:
    """A rollout, its arms, the analysis and the router, without any database."""

    now: float = 1_000.0
    desired: dict[str, int] = field(default_factory=lambda: {B: 10_000})
    applied: dict[str, int] = field(default_factory=lambda: {B: 10_000})
    left: dict[str, Drop] = field(default_factory=dict)
    weights: tuple[int, ...] = (1, 1, 1, 1)
    rollout: RolloutView = field(init=False)

    def __post_init__(self) -> None:
        self.rollout = RolloutView(
            phase=Phase.PENDING,
            pause_reason=PauseReason.NONE,
            plan=PLAN,
            step_index=-1,
            phase_since=self.now,
            step_since=None,
            step_requests=0,
            measured_at=None,
            created_at=self.now,
            arms=tuple(
                ArmView(name, variant, f"v{i + 1}") for i, (name, variant) in enumerate(VARIANTS.items())
            ),
        )

    def see(self, moment: Moment) -> Seen:
        silent = moment.router == "silent"
        observed = {B: 3_000, CANDIDATES["candidate"]: 7_000} if moment.router == "drifted" else self.applied
        waits = self.applied != self.desired
        in_force = not silent and not waits and _split(observed) == _split(self.desired)
        phases = dict(zip(VARIANTS.values(), moment.phases, strict=True))
        statuses = {name: _status(name, phase) for name, phase in phases.items() if phase is not None}
        fine = {name for name, phase in phases.items() if phase in (None, WorkloadPhase.READY)}
        return Seen(
            desired_shares=dict(self.desired),
            in_force=in_force,
            routed=None if silent else frozenset(VARIANTS.values()),
            healthy=frozenset() if silent else frozenset(fine),
            drift=dict(observed) if moment.router == "drifted" and not waits else None,
            rejected="no" if moment.router == "refusing" else "",
            hold=GLOBAL_STOP if moment.stop else None,
            engines=statuses,
            answered=frozenset(
                name
                for name, yes in zip(CANDIDATES.values(), moment.answered, strict=True)
                if yes and in_force
            ),
            split=_split(self.applied if silent else observed),
        )

    def learn(self, moment: Moment) -> GatesView:
        """What the analysis says now: as the real one, it knows who left by evidence, and whom the loop dropped."""
        has_traffic = self.rollout.phase in TRAFFIC_MOVES
        if moment.leaves and has_traffic and moment.leaves not in self.left:
            self.left[moment.leaves] = Drop(
                moment.leaves, "evidence", f"{moment.leaves} is worse.", "bandit:baseline"
            )
        self.weights = moment.weights or self.weights
        gone = set(self.left) | {arm.name for arm in self.rollout.arms if arm.dropped}
        racing = [name for name in CANDIDATES if name not in gone]
        parts = {
            name: weight for name, weight in zip(VARIANTS, self.weights, strict=True) if name not in gone
        }
        wanted = {name: 10_000 * part // sum(parts.values()) for name, part in parts.items()}
        wanted["baseline"] += 10_000 - sum(wanted.values())
        alone = len(racing) < 2
        winner = (racing[0] if moment.passes else "") if racing else "baseline"
        bad = GatesView(rollback=moment.kill, cause="gate:errors", cause_sentence="Errors rose.")
        return GatesView(
            open_because="inconclusive",
            race=RaceView(
                wanted={name: wanted.get(name, 0) for name in VARIANTS},
                left=tuple(self.left.values()),
                gates=dict.fromkeys(CANDIDATES, bad),
                winner=winner if alone else "",
            ),
        )

    def apply(self, made: Decision) -> None:
        for effect in made.effects:
            if isinstance(effect, SetTraffic):
                self.desired = dict(effect.shares)
        drops = {drop.arm: drop for drop in made.drops}
        arms = tuple(
            replace(
                arm,
                share_bp=self.desired.get(arm.variant, 0),
                dropped=arm.dropped or arm.name in drops,
                cause=arm.cause or (drops[arm.name].cause if arm.name in drops else ""),
            )
            for arm in self.rollout.arms
        )
        moved = made.phase is not self.rollout.phase
        stepped = made.step_index != self.rollout.step_index
        promoted = moved and made.phase is Phase.SUCCEEDED
        self.rollout = replace(
            self.rollout,
            arms=arms,
            candidate_arm=made.winner or self.rollout.candidate_arm,
            phase=made.phase,
            pause_reason=made.pause_reason,
            step_index=made.step_index,
            phase_since=self.now if moved else self.rollout.phase_since,
            step_since=None if stepped else self.rollout.step_since,
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
                step_since=self.rollout.step_since or (self.now if seen.in_force else None),
            )

    def publish(self, moment: Moment, seen: Seen) -> None:
        """As `act` does: nobody grows under a stop, and nobody who is not ready."""
        if moment.router not in ("ok", "drifted"):
            return
        grow = [name for name in CANDIDATES.values() if self.desired.get(name, 0) > seen.split.get(name, 0)]
        ready = {
            name for name in grow if (seen.is_ready(name) if name in seen.engines else name in seen.healthy)
        }
        if not grow or (not moment.stop and len(ready) == len(grow)):
            self.applied = dict(self.desired)


def _split(shares: Mapping[str, int]) -> dict[str, int]:
    return {name: share for name, share in shares.items() if share}


def _status(name: str, phase: WorkloadPhase) -> EngineView:
    return EngineView(name, phase, ready=int(phase is WorkloadPhase.READY), desired=1)


def _command(moment: Moment, rollout: RolloutView) -> Decision | None:
    """What a person may order now; the services refuse the rest."""
    racing = [arm.name for arm in rollout.racing]
    moves = {
        "pause": (Event.PAUSE, lambda: pause(rollout, why=PauseReason.PERSON, sentence="ana", next_step="")),
        "resume": (Event.RESUME, lambda: resume(rollout, sentence="ana")),
        "promote": (Event.PROMOTE, lambda: promote(rollout, sentence="ana", arm=moment.choice)),
        "roll_back": (Event.ROLL_BACK, lambda: roll_back(rollout, cause="person", sentence="ana")),
    }
    if moment.person not in moves or (moment.stop and moment.person in ("resume", "promote")):
        return None
    if moment.person == "promote" and moment.choice not in racing:
        return None
    event, move = moves[moment.person]
    if rollout.phase is Phase.SUCCEEDED and not rollout.watching:
        return None
    return move() if event.value in allowed_events(rollout.phase) else None


def check(before: Walk, moment: Moment, seen: Seen, gates: GatesView, made: Decision) -> None:
    """What no decision of the loop may do."""
    rollout = before.rollout
    out = {arm.variant for arm in rollout.arms if arm.dropped} | {VARIANTS[drop.arm] for drop in made.drops}
    assert "baseline" not in {drop.arm for drop in made.drops}
    assert not {drop.arm for drop in made.drops} & {arm.name for arm in rollout.arms if arm.dropped}
    for effect in made.effects:
        if isinstance(effect, DrainWorkload):
            finished = made.event in (Event.RETURN,) or made.end_watch
            assert effect.variant in out or finished
            assert effect.variant != rollout.candidate or rollout.candidate in out or finished
        if not isinstance(effect, SetTraffic):
            continue
        shares = effect.shares
        assert sum(shares.values()) == 10_000
        assert all(share >= 0 for share in shares.values())
        assert not any(shares.get(name, 0) for name in out)
        grow = [name for name in CANDIDATES.values() if shares.get(name, 0) > seen.split.get(name, 0)]
        # Resuming sets what was asked for before the pause; publishing it looks at readiness and the stop again.
        if grow and made.event is not Event.RESUME and not made.end_watch:
            assert seen.hold is None
            assert seen.drift is None
            assert seen.routed is not None
            assert all(seen.is_ready(name) for name in grow)
            assert made.event in (Event.START, Event.REWEIGHT, Event.DROP, Event.PROMOTE)
    bandit = gates.race
    assert bandit is not None
    if made.event is Event.PROMOTE:
        assert made.winner == bandit.winner
        assert [arm.name for arm in rollout.racing] == [made.winner]
        assert made.drops == ()
    if made.event is Event.REWEIGHT:
        assert rollout.phase is Phase.PROGRESSING
        assert made.step_index == rollout.step_index == 0
    if made.event is Event.RETURN:
        assert seen.in_force
        assert _split(before.desired) == {B: 10_000}
    if rollout.phase in (Phase.PROGRESSING, Phase.PAUSED):
        still = [arm.name for arm in rollout.racing if arm.name not in {drop.arm for drop in made.drops}]
        assert not set(still) & {drop.arm for drop in bandit.left}
        assert still or made.event is Event.ROLL_BACK
    if rollout.phase not in ACTIVE and rollout.phase is not Phase.SUCCEEDED:
        assert made.event is None
        assert made.effects == ()


def walk(moments: list[Moment]) -> Walk:
    state = Walk()
    for moment in moments:
        order = _command(moment, state.rollout)
        if order is not None:
            state.apply(order)
        state.now += TICK
        seen = state.see(moment)
        state.measure(moment, seen)
        gates = state.learn(moment)
        made = decide(state.rollout, seen, gates, state.now)
        assert made == decide(state.rollout, seen, gates, state.now)
        assert RolloutView.from_json(state.rollout.to_json(), PLAN) == state.rollout
        check(state, moment, seen, gates, made)
        before, out = dict(state.applied), [arm.variant for arm in state.rollout.arms if arm.dropped]
        state.apply(made)
        state.publish(moment, seen)
        assert sum(state.desired.values()) == 10_000
        usual = moment.router == "ok" and moment.phases[0] is WorkloadPhase.READY
        if usual and state.rollout.phase in (Phase.PROGRESSING, Phase.PAUSED):
            # Whatever else is wrong: with a router and a baseline, who is out has no traffic any more.
            assert not any(state.applied.get(arm.variant, 0) for arm in state.rollout.arms if arm.dropped)
        for name in CANDIDATES.values():
            if moment.stop or name in out:
                assert state.applied.get(name, 0) <= max(before.get(name, 0), seen.split.get(name, 0))
    return state


@settings(max_examples=250, deadline=None)
@given(st.lists(MOMENTS, max_size=60))
def test_decide__any_walk__keeps_the_invariants(moments: list[Moment]) -> None:
    walk(moments)


@settings(max_examples=200, deadline=None)
@given(st.lists(HEALTHY, min_size=6, max_size=20), st.lists(MOMENTS, max_size=40))
def test_decide__any_walk_after_a_good_start__keeps_the_invariants(
    good: list[Moment], rest: list[Moment]
) -> None:
    walk(good + rest)


@settings(max_examples=100, deadline=None)
@given(
    st.lists(MOMENTS.filter(lambda m: m.person != "pause" and not m.kill), max_size=25),
    st.permutations(list(CANDIDATES)),
)
def test_decide__after_any_trouble_that_ends__the_bandit_ends_too(
    trouble: list[Moment], order: list[str]
) -> None:
    """Nothing leaves a bandit stuck: once all is well and two of three are proven worse, the last one has won."""
    calm = [replace(GOOD, person="resume"), *[GOOD] * 6]
    ends = [replace(GOOD, leaves=order[0]), GOOD, replace(GOOD, leaves=order[1]), *[GOOD] * 25]
    state = walk([*trouble, *calm, *ends])
    assert state.rollout.phase not in ACTIVE
    if state.rollout.phase is Phase.SUCCEEDED:
        assert _split(state.applied) == {state.rollout.candidate: 10_000}
        assert [arm.variant for arm in state.rollout.racing] == [state.rollout.candidate]
    elif state.rollout.phase is Phase.ROLLED_BACK:
        assert _split(state.applied) == {B: 10_000}


def test_walk__all_well__the_winner_has_all_traffic() -> None:
    good = [GOOD] * 6
    ends = [replace(GOOD, leaves="candidate"), GOOD, replace(GOOD, leaves="candidate-3"), *[GOOD] * 20]
    state = walk([*good, *ends])
    assert state.rollout.phase is Phase.SUCCEEDED
    assert _split(state.applied) == {CANDIDATES["candidate-2"]: 10_000}
