"""The dry run of a rollout: every check with its fix, the plan in time, what each gate can find. Writes nothing."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from datetime import datetime, timedelta

from controlplane.access.actors import Actor
from controlplane.kernel.errors import InvalidInput, NotFound, Refused, Unavailable
from controlplane.kernel.words import percent_of_bp
from registry.models import Version
from rollouts.domain.gates import checks as numbers
from rollouts.domain.gates.forecast import PlanForecast, plan_forecast
from rollouts.domain.gates.latency import step_directions
from rollouts.domain.gates.policy import GatePolicy
from rollouts.domain.lifecycle.arms import MOST_CANDIDATES
from rollouts.domain.lifecycle.plan import FULL_SHARE_BP, Plan
from rollouts.domain.variants import ServingSpec, variant_digest, variant_name
from rollouts.models import Endpoint, GatePolicyVersion, Workload
from rollouts.ports import EngineRoom, TrafficRouter
from rollouts.services.commands.secrets import spec_tried_dry
from rollouts.services.commands.serving_specs import engine_options
from rollouts.services.policies.own import weaker_checks, weaker_than_endpoint
from rollouts.services.preview.bandit import (
    BanditPreview,
    bandit_checks,
    direction_words,
    guardrail_forecasts,
    preview_bandit,
)
from rollouts.services.preview.checks import (
    ASSUMED_RATE,
    Check,
    candidate_checks,
    capability_checks,
    check_room,
    check_traffic,
    endpoint_checks,
    forecast_checks,
    policy_checks,
    serving_checks,
)
from rollouts.services.preview.traffic import MeasuredTraffic, recent_traffic
from rollouts.services.world import Worlds

LARGEST_NUMBER = 2**31 - 1  # of a version: databases refuse to look for a larger one
LAUNCH_GUESS_SECONDS = 60.0
PASS_SHARE_BP = 2_500
ASSUMED_PAIRS_PER_MINUTE = 60.0  # what quick engines do


@dataclass(frozen=True, slots=True)
class StepForecast:
    """One step of the plan: when it begins at the earliest (seconds from now), and what latency may show in it."""

    share_bp: int
    starts_after: float
    ends_after: float
    load: float
    latency: str  # "fail and pass", "fail only", "pass only", "nothing"


@dataclass(frozen=True, slots=True)
class Preview:
    """A dry run. Nothing was written and nothing runs.

    variant         of the first candidate; `variants` of all
    ends_at         a canary: at the earliest. A bandit: its deadline
    steps           of a canary; a bandit has none
    gates           what each gate finds by the end (of a bandit: of one candidate)
    bandit          what only a bandit has; None for a canary
    """

    strategy: str
    variant: str
    variants: tuple[str, ...]
    baseline: str
    ends_at: datetime
    seconds: float
    requests_per_second: float
    checks: tuple[Check, ...]
    steps: tuple[StepForecast, ...]
    gates: tuple[PlanForecast, ...]
    promise: str
    bandit: BanditPreview | None = None

    @property
    def can_start(self) -> bool:
        return all(check.state != "refused" for check in self.checks)

    @property
    def refused(self) -> int:
        return sum(check.state == "refused" for check in self.checks)


def find_endpoint(name: str) -> Endpoint:
    """The endpoint of that name. Raises NotFound."""
    try:
        return Endpoint.objects.select_related(
            "cluster", "model", "gate_policy", "golden_set", "stable__version", "previous"
        ).get(name=name)
    except Endpoint.DoesNotExist:
        raise NotFound(f"There is no endpoint {name!r}.", code="endpoint-not-found") from None


def find_version(endpoint: Endpoint, number: int, *, field: str = "version") -> Version:
    """A version of the endpoint's model. Raises InvalidInput naming the field, and the versions that exist."""
    version = Version.objects.select_related("model").filter(model=endpoint.model, number=number).first()
    if version is None:
        known = Version.objects.filter(model=endpoint.model, gone_at=None).values_list("number", flat=True)[
            :10
        ]
        names = ", ".join(f"v{n}" for n in known) or "none yet"
        raise InvalidInput(
            f"{endpoint.model.name} has no version {number}.",
            field=field,
            fix=f"Choose one that exists: {names}.",
            code="unknown-version",
        )
    return version


def find_candidates(endpoint: Endpoint, plan: Plan, numbers: Sequence[int]) -> list[tuple[Version, str]]:
    """The versions of a rollout's candidates, each with the field that named it.

    Raises InvalidInput: several for a canary or too many for a bandit (field `versions`), one twice or one that does
    not exist (`versions[1]`; `version` when there is only one).
    """
    if len(numbers) > 1 and plan.bandit is None:
        raise InvalidInput(
            "A canary compares one version with the stable one.",
            field="versions",
            fix="Choose one version, or the strategy bandit.",
        )
    if len(numbers) > MOST_CANDIDATES:
        raise InvalidInput(
            f"{len(numbers)} candidates are too many to be told apart.",
            field="versions",
            fix=f"Choose at most {MOST_CANDIDATES}.",
        )
    possible = [number for number in numbers if number <= LARGEST_NUMBER]
    known = {
        version.number: version
        for version in Version.objects.select_related("model").filter(
            model=endpoint.model, number__in=possible
        )
    }
    found: list[tuple[Version, str]] = []
    for position, number in enumerate(numbers):
        field = "version" if len(numbers) == 1 else f"versions[{position}]"
        if number in numbers[:position]:
            raise InvalidInput(f"v{number} is named twice.", field=field, fix="Name every version once.")
        found.append((known.get(number) or find_version(endpoint, number, field=field), field))
    return found


def preview_rollout(
    *,
    endpoint: Endpoint,
    version_number: int,
    plan: Plan,
    worlds: Worlds,
    now: datetime,
    other_versions: Sequence[int] = (),
    serving: ServingSpec | None = None,
    gate_policy: GatePolicyVersion | None = None,
    own_policy: GatePolicy | None = None,
    actor: Actor | None = None,
) -> Preview:
    """What `start_rollout` would do: every check with its fix, the plan in time, what each gate can find.

    worlds  the endpoint's cluster is asked what its engines and its router allow, and for its memory
    actor   who would start it, where somebody does: a policy that this one may not use is then a refused check
    Raises InvalidInput for versions that cannot be candidates together (`find_candidates`) and for a bandit's floors
    that leave no room for so many arms; all else is a check.
    """
    candidates = find_candidates(endpoint, plan, (version_number, *other_versions))
    versions = [version for version, _ in candidates]
    spec = serving or (endpoint.stable.spec if endpoint.stable else ServingSpec())
    policy = own_policy or (gate_policy or endpoint.gate_policy).policy
    weaker = weaker_than_endpoint(endpoint, source=gate_policy, own=own_policy)
    kept, checks_of_secrets = _with_secrets(endpoint, spec, worlds)
    variants = [_variant_name(endpoint, version, kept) for version in versions]
    traffic = recent_traffic(endpoint, now)
    running = frozenset(
        Workload.objects.filter(variant__name__in=variants, ready__gt=0).values_list(
            "variant__name", flat=True
        )
    )
    checks = [
        check
        for (version, field), name in zip(candidates, variants, strict=True)
        for check in candidate_checks(endpoint, version, name, field, alone=len(versions) == 1)
    ]
    checks += serving_checks(endpoint, versions, spec, worlds) or checks_of_secrets
    checks += [
        *endpoint_checks(endpoint),
        *policy_checks(endpoint, policy, worlds.edges_of(endpoint.cluster.name)),
    ]
    checks += capability_checks(endpoint, plan, _router(endpoint, worlds))
    checks += weaker_checks(weaker, endpoint=endpoint, actor=actor)
    checks += check_room(
        _room(endpoint, spec, worlds), sum(spec.replicas for name in variants if name not in running)
    )
    if plan.bandit is None:
        bandit = None
        steps = _forecast_steps(endpoint, plan, spec)
        forecasts = _gate_forecasts(policy, plan, traffic)
        checks += [
            _check_latency_steps(policy, steps),
            _check_pass_share(policy, plan),
            check_traffic(traffic),
        ]
        checks += forecast_checks(policy, forecasts, "when the last step ends")
        seconds = steps[-1].ends_after
    else:
        steps = ()
        bandit = _bandit(endpoint, versions, variants, plan, spec, policy, traffic, running)
        forecasts = guardrail_forecasts(
            policy, plan, traffic, candidates=len(versions), pairs_per_minute=ASSUMED_PAIRS_PER_MINUTE
        )
        checks += [*bandit_checks(bandit, policy, versions), check_traffic(traffic)]
        checks += forecast_checks(policy, forecasts, "at the deadline")
        seconds = LAUNCH_GUESS_SECONDS + plan.deadline_seconds
    return Preview(
        strategy=plan.strategy,
        variant=variants[0],
        variants=tuple(variants),
        baseline=endpoint.stable.name if endpoint.stable else "",
        ends_at=now + timedelta(seconds=seconds),
        seconds=seconds,
        requests_per_second=traffic.per_second,
        checks=tuple(checks),
        steps=steps,
        gates=forecasts,
        promise=_promise(plan, policy, len(versions)),
        bandit=bandit,
    )


def _bandit(
    endpoint: Endpoint,
    versions: Sequence[Version],
    variants: Sequence[str],
    plan: Plan,
    spec: ServingSpec,
    policy: GatePolicy,
    traffic: MeasuredTraffic,
    running: frozenset[str],
) -> BanditPreview:
    """Names what is refused as the plan does: `plan.bandit.floor_bp`."""
    try:
        return preview_bandit(
            endpoint=endpoint,
            versions=versions,
            variants=variants,
            plan=plan,
            spec=spec,
            policy=policy,
            traffic=traffic,
            running=running,
        )
    except InvalidInput as error:
        raise numbers.at("plan", error) from error


def _with_secrets(endpoint: Endpoint, spec: ServingSpec, worlds: Worlds) -> tuple[ServingSpec, list[Check]]:
    """The spec as its variant is named by, with a refusal where its secrets cannot be stored."""
    if not spec.environment:
        return spec, []
    try:
        cluster = worlds.of(endpoint.cluster.name).cluster
        options = engine_options(cluster=cluster, engine=spec.engine)
    except (InvalidInput, Unavailable):
        options = None  # refused below, in its own words
    try:
        return spec_tried_dry(spec=spec, options=options, stable=endpoint.stable), []
    except (InvalidInput, Refused) as error:
        field = error.field if isinstance(error, InvalidInput) else "serving.environment"
        refused = Check("refused", error.message.rstrip("."), fix=error.fix, field=field, code=error.code)
        return replace(spec, environment={}), [refused]


def _router(endpoint: Endpoint, worlds: Worlds) -> TrafficRouter | None:
    try:
        return worlds.of(endpoint.cluster.name).router
    except Unavailable:
        return None  # said by another check


def _room(endpoint: Endpoint, spec: ServingSpec, worlds: Worlds) -> EngineRoom | None:
    """The memory for engines, where somebody knows; an engine takes what the spec asks for where that is more."""
    try:
        room = worlds.of(endpoint.cluster.name).cluster.engine_room()
    except Unavailable:
        return None  # said by another check
    return room and replace(room, engine_mb=max(room.engine_mb, spec.resources.get("memory_mb", 0)))


def _variant_name(endpoint: Endpoint, version: Version, spec: ServingSpec) -> str:
    digest = variant_digest(manifest_digest=version.manifest_digest, spec=spec)
    return variant_name(endpoint=endpoint.name, version=version.number, digest=digest)


def _promise(plan: Plan, policy: GatePolicy, candidates: int) -> str:
    if plan.bandit is None:
        return f"If nothing changed, it is rolled back with probability at most {policy.alpha:g} over its whole life."
    return (
        f"The best arm is dropped by mistake with probability at most {plan.bandit.alpha:g}, and a harmless one by its "
        f"guardrails with at most {policy.alpha / candidates:.3g}, over the whole life."
    )


# --- a canary's steps -----------------------------------------------------------------------------------------


def _gate_forecasts(policy: GatePolicy, plan: Plan, traffic: MeasuredTraffic) -> tuple[PlanForecast, ...]:
    return tuple(
        plan_forecast(
            policy=policy,
            gate=gate,
            requests_per_second=traffic.per_second or ASSUMED_RATE,
            base_rate=traffic.base_rate(gate),
            steps=[(step.share_bp, float(step.hold_seconds)) for step in plan.steps],
            pairs_per_minute=ASSUMED_PAIRS_PER_MINUTE,
        )
        for gate in policy.gates
    )


def _forecast_steps(endpoint: Endpoint, plan: Plan, spec: ServingSpec) -> tuple[StepForecast, ...]:
    base = max(1, endpoint.stable.spec.replicas if endpoint.stable else 1)
    at = LAUNCH_GUESS_SECONDS
    rows = []
    for step in plan.steps:
        words = direction_words(step_directions(step.share_bp, float(spec.replicas), float(base)))
        load = (step.share_bp / spec.replicas) / ((FULL_SHARE_BP - step.share_bp) / base)
        rows.append(StepForecast(step.share_bp, at, at + step.hold_seconds, load, words))
        at += step.hold_seconds
    return tuple(rows)


def _check_latency_steps(policy: GatePolicy, steps: tuple[StepForecast, ...]) -> Check:
    gates = [gate for gate in policy.gates if gate.kind == "latency_slo" and gate.required]
    deciding = [
        percent_of_bp(step.share_bp)
        for step in steps
        if "pass" in step.latency and step.share_bp >= PASS_SHARE_BP
    ]
    if gates and not deciding:
        return Check(
            "refused",
            f"No step can decide {gates[0].label}",
            "A candidate replica never carries as much load as a baseline one, so a pass would prove nothing.",
            "Add a step of 50%, or give the candidate fewer replicas.",
            field="plan.steps",
            code="latency-undecidable",
        )
    return Check(
        "ok",
        "Every latency gate can be decided",
        f"by {', '.join(deciding)}" if deciding else "none required",
    )


def _check_pass_share(policy: GatePolicy, plan: Plan) -> Check:
    needed = any(gate.required and gate.kind != "paired" for gate in policy.gates)
    if needed and not any(step.share_bp >= PASS_SHARE_BP for step in plan.steps):
        return Check(
            "refused",
            "No step has 25% or more",
            "A pass counts only from steps with a share of at least 25%.",
            "Add a step of 25% or more.",
            field="plan.steps",
            code="share-too-small",
        )
    return Check(
        "ok",
        "Steps are large enough for a pass",
        f"{percent_of_bp(plan.steps[-1].share_bp)} at the last step",
    )
