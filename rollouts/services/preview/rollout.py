"""The dry run of a rollout: every check with its fix, the plan in time, what each gate can find. Writes nothing."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime, timedelta

from controlplane.access.actors import Actor
from controlplane.kernel.errors import InvalidInput, NotFound, Refused, Unavailable
from registry.models import Version
from rollouts.domain.gates import checks as numbers
from rollouts.domain.gates.pace import USUAL_INTERVAL_SECONDS
from rollouts.domain.gates.plan_forecast import PlanForecast
from rollouts.domain.gates.policy import GatePolicy
from rollouts.domain.lifecycle.plan import Plan
from rollouts.domain.strategies import STRATEGIES, strategy_of
from rollouts.domain.strategies.dry_run import Check, Contender, Forecast, Planned, StepForecast
from rollouts.domain.traffic import MeasuredTraffic
from rollouts.domain.variants import ServingSpec, variant_digest, variant_name
from rollouts.models import Endpoint, GatePolicyVersion, Workload
from rollouts.ports import TrafficRouter
from rollouts.services.commands.secrets import spec_tried_dry
from rollouts.services.commands.serving_specs import engine_options
from rollouts.services.policies.own import weaker_checks, weaker_than_endpoint
from rollouts.services.preview.asked import capacity_checks, signal_checks
from rollouts.services.preview.checks import (
    candidate_checks,
    capability_checks,
    check_traffic,
    endpoint_checks,
    forecast_checks,
    policy_checks,
    room_checks,
    serving_checks,
)
from rollouts.services.preview.traffic import recent_traffic
from rollouts.services.world import Worlds

LARGEST_NUMBER = 2**31 - 1  # of a version: databases refuse to look for a larger one


@dataclass(frozen=True, slots=True)
class Preview:
    """A dry run. Nothing was written and nothing runs.

    variant         of the first candidate; `variants` of all
    ends_at         at the earliest, or at the deadline, as the strategy says
    steps           where the plan has steps
    gates           what each gate finds of one candidate by the end
    own             what only this strategy can say; None where that is nothing
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
    own: object | None = None

    @property
    def own_of(self) -> Mapping[str, object]:
        """`own` under the name of the strategy; empty where it says nothing of its own."""
        return {} if self.own is None else {self.strategy: self.own}

    @property
    def can_start(self) -> bool:
        return all(check.state != "refused" for check in self.checks)

    @property
    def refused(self) -> int:
        return sum(check.state == "refused" for check in self.checks)


def endpoint_to_roll_out(name: str) -> Endpoint:
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

    Raises InvalidInput: more than the strategy takes (field `versions`), one twice or one that does
    not exist (`versions[1]`; `version` when there is only one).
    """
    most = strategy_of(plan).MOST_CANDIDATES
    if len(numbers) > 1 and most == 1:
        others = " or ".join(name for name, one in STRATEGIES.items() if one.MOST_CANDIDATES > 1)
        raise InvalidInput(
            f"A {plan.strategy} compares one version with the stable one.",
            field="versions",
            fix=f"Choose one version, or the strategy {others}.",
        )
    if len(numbers) > most:
        raise InvalidInput(
            f"{len(numbers)} candidates are too many to be told apart.",
            field="versions",
            fix=f"Choose at most {most}.",
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
    asks: bool = True,
) -> Preview:
    """What `start_rollout` would do: every check with its fix, the plan in time, what each gate can find.

    worlds  the endpoint's cluster is asked what its engines and its router allow
    asks    whether the cluster is asked for room, and the counters whether they count: what people read and what
            refuses no start. It may take seconds where they are slow
    actor   who would start it, where somebody does: a policy that this one may not use is then a refused check
    Raises InvalidInput for versions that cannot be candidates together (`find_candidates`) and for a
    plan that leaves no room for so many arms; all else is a check.
    """
    candidates = find_candidates(endpoint, plan, (version_number, *other_versions))
    versions = [version for version, _ in candidates]
    spec = serving or (endpoint.stable.spec.to_launch if endpoint.stable else ServingSpec())
    policy = own_policy or (gate_policy or endpoint.gate_policy).policy
    weaker = weaker_than_endpoint(endpoint, source=gate_policy, own=own_policy)
    kept, checks_of_secrets = _with_secrets(endpoint, spec, worlds)
    variants = [_variant_name(endpoint, version, kept) for version in versions]
    traffic = recent_traffic(endpoint, now)
    workloads = _workloads(endpoint, variants)
    running = frozenset(name for name in variants if name in workloads and workloads[name].ready)
    checks = [
        check
        for (version, field), name in zip(candidates, variants, strict=True)
        for check in candidate_checks(endpoint, version, name, field, alone=len(versions) == 1)
    ]
    refused = serving_checks(endpoint, versions, spec, worlds) or checks_of_secrets
    checks += [
        *refused,
        *endpoint_checks(endpoint),
        *policy_checks(endpoint, policy, worlds.edges_of(endpoint.cluster.name)),
    ]
    checks += capability_checks(endpoint, plan, _router(endpoint, worlds))
    checks += weaker_checks(weaker, endpoint=endpoint, actor=actor)
    replicas = _baseline_replicas(endpoint, workloads)
    checks += room_checks(endpoint, spec, replicas)
    if asks and not refused:
        by_name = dict(zip(variants, versions, strict=True))
        checks += capacity_checks(endpoint, by_name, running, kept, worlds)
    forecast = _forecast(
        endpoint,
        versions,
        variants,
        plan,
        spec,
        policy,
        traffic,
        running,
        replicas,
        _interval_seconds(endpoint, worlds),
    )
    checks += [*forecast.checks, check_traffic(traffic)]
    if asks and endpoint.stable is not None:
        baseline = workloads.get(endpoint.stable.name)
        checks += signal_checks(endpoint, policy, traffic, baseline, worlds, now)
    checks += forecast_checks(policy, forecast.gates, forecast.end)
    return Preview(
        strategy=plan.strategy,
        variant=variants[0],
        variants=tuple(variants),
        baseline=endpoint.stable.name if endpoint.stable else "",
        ends_at=now + timedelta(seconds=forecast.seconds),
        seconds=forecast.seconds,
        requests_per_second=traffic.per_second,
        checks=tuple(checks),
        steps=forecast.steps,
        gates=forecast.gates,
        promise=forecast.promise,
        own=forecast.own,
    )


def _forecast(
    endpoint: Endpoint,
    versions: Sequence[Version],
    variants: Sequence[str],
    plan: Plan,
    spec: ServingSpec,
    policy: GatePolicy,
    traffic: MeasuredTraffic,
    running: frozenset[str],
    baseline_replicas: int,
    interval_seconds: float,
) -> Forecast:
    """What the strategy says. Names what is refused as the plan does, such as `plan.bandit.floor_bp`."""
    stable = endpoint.stable
    planned = Planned(
        plan=plan,
        policy=policy,
        contenders=tuple(
            Contender(version.number, version.label, variant, version.manifest_digest, variant in running)
            for version, variant in zip(versions, variants, strict=True)
        ),
        replicas=spec.replicas,
        baseline=stable.name if stable else "",
        baseline_version=stable.version.number if stable else 0,
        baseline_replicas=baseline_replicas,
        traffic=traffic,
        interval_seconds=interval_seconds,
    )
    try:
        return strategy_of(plan).forecast(planned)
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


def _baseline_replicas(endpoint: Endpoint, workloads: Mapping[str, Workload]) -> int:
    """How many replicas serve: as was asked for; of a server that was adopted, as its owner has it now."""
    stable = endpoint.stable
    if stable is None:
        return 1
    seen = workloads.get(stable.name)
    return max(1, seen.desired if seen is not None and stable.spec.adopts else stable.spec.replicas)


def _interval_seconds(endpoint: Endpoint, worlds: Worlds) -> float:
    try:
        return worlds.of(endpoint.cluster.name).interval_seconds
    except Unavailable:
        return USUAL_INTERVAL_SECONDS  # said by another check


def _router(endpoint: Endpoint, worlds: Worlds) -> TrafficRouter | None:
    try:
        return worlds.of(endpoint.cluster.name).router
    except Unavailable:
        return None  # said by another check


def _workloads(endpoint: Endpoint, variants: Sequence[str]) -> dict[str, Workload]:
    """Of these variants and the one that serves, by name. 1 query."""
    names = {*variants, *([endpoint.stable.name] if endpoint.stable is not None else [])}
    rows = Workload.objects.filter(variant__name__in=names).select_related("variant")
    return {row.variant.name: row for row in rows}


def _variant_name(endpoint: Endpoint, version: Version, spec: ServingSpec) -> str:
    digest = variant_digest(manifest_digest=version.manifest_digest, spec=spec)
    return variant_name(endpoint=endpoint.name, version=version.number, digest=digest)
