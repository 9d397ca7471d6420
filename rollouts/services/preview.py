"""The dry run of a rollout: every check with its fix, the plan in time, what each gate can find. Writes nothing."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta

from django.db.models import Sum

from controlplane.kernel.errors import InvalidInput, NotFound, Refused
from registry.models import Version
from rollouts.domain.gates.forecast import PlanForecast, plan_forecast
from rollouts.domain.gates.latency import require_edge, step_directions
from rollouts.domain.gates.policy import GatePolicy, GateSpec
from rollouts.domain.intervals import LatencyCounts
from rollouts.domain.plan import FULL_SHARE_BP, Plan
from rollouts.domain.sentences import duration, percent
from rollouts.domain.states import ACTIVE
from rollouts.domain.variants import ServingSpec, variant_digest, variant_name
from rollouts.models import Endpoint, GatePolicyVersion, MinuteSample, Rollout, Workload
from rollouts.services.commands import stop_is_on
from rollouts.services.endpoints import check_launchable

LAUNCH_GUESS_SECONDS = 60.0
PASS_SHARE_BP = 2_500
ASSUMED_BASE_RATE = 0.01
ASSUMED_RATE = 1.0
ASSUMED_PAIRS_PER_MINUTE = 60.0  # what quick engines do


@dataclass(frozen=True, slots=True)
class Check:
    """One thing the dry run looked at. `state` is ok, warning or refused; a refused one has a `fix`."""

    state: str
    title: str
    detail: str = ""
    fix: str = ""
    field: str = ""
    code: str = ""


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
    """A dry run. Nothing was written and nothing runs."""

    variant: str
    baseline: str
    ends_at: datetime
    seconds: float
    requests_per_second: float
    checks: tuple[Check, ...]
    steps: tuple[StepForecast, ...]
    gates: tuple[PlanForecast, ...]
    promise: str

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


def find_version(endpoint: Endpoint, number: int) -> Version:
    """A version of the endpoint's model. Raises InvalidInput naming the versions that exist."""
    version = Version.objects.select_related("model").filter(model=endpoint.model, number=number).first()
    if version is None:
        known = Version.objects.filter(model=endpoint.model, gone_at=None).values_list("number", flat=True)[
            :10
        ]
        names = ", ".join(f"v{n}" for n in known) or "none yet"
        raise InvalidInput(
            f"{endpoint.model.name} has no version {number}.",
            field="version",
            fix=f"Choose one that exists: {names}.",
            code="unknown-version",
        )
    return version


def preview_rollout(
    *,
    endpoint: Endpoint,
    version_number: int,
    plan: Plan,
    edges: Mapping[str, tuple[float, ...]],
    now: datetime,
    serving: ServingSpec | None = None,
    gate_policy: GatePolicyVersion | None = None,
) -> Preview:
    """What `start_rollout` would do: every check with its fix, the plan in time, what each gate can find.

    Raises InvalidInput for an unknown version only; all else is a check.
    """
    version = find_version(endpoint, version_number)
    spec = serving or _spec_of(endpoint)
    policy = (gate_policy or endpoint.gate_policy).policy
    digest = variant_digest(manifest_digest=version.manifest_digest, spec=spec)
    name = variant_name(endpoint=endpoint.name, version=version.number, digest=digest)
    traffic = _recent_traffic(endpoint, now)
    steps = _forecast_steps(endpoint, plan, spec)
    forecasts = tuple(
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
    checks = _checks(endpoint, version, spec, plan, policy, edges, traffic, steps, forecasts, name)
    seconds = steps[-1].ends_after
    return Preview(
        variant=name,
        baseline=endpoint.stable.name if endpoint.stable else "",
        ends_at=now + timedelta(seconds=seconds),
        seconds=seconds,
        requests_per_second=traffic.per_second,
        checks=checks,
        steps=steps,
        gates=forecasts,
        promise=(
            f"If nothing changed, it is rolled back with probability at most {policy.alpha:g} over its whole life."
        ),
    )


def _spec_of(endpoint: Endpoint) -> ServingSpec:
    return endpoint.stable.spec if endpoint.stable else ServingSpec()


# --- what the dry run looks at ----------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class _Traffic:
    """The stable variant's last hour."""

    per_second: float
    requests: int
    errors: int
    latency: Mapping[str, LatencyCounts]

    def base_rate(self, gate: GateSpec) -> float:
        if gate.kind == "error_rate" and self.requests:
            return self.errors / self.requests
        counts = self.latency.get(gate.signal or "")
        if gate.kind == "latency_slo" and counts is not None and counts.total:
            return min(0.99, counts.over.get(gate.slo_seconds or 0.0, 0) / counts.total)
        return ASSUMED_BASE_RATE


def _recent_traffic(endpoint: Endpoint, now: datetime) -> _Traffic:
    rows = MinuteSample.objects.filter(endpoint=endpoint, minute__gte=now - timedelta(hours=1))
    sums = rows.aggregate(requests=Sum("requests"), errors=Sum("errors"), seconds=Sum("seconds"))
    latency: dict[str, LatencyCounts] = {}
    for sample in rows.filter(variant=endpoint.stable):
        for signal, data in sample.latency.items():
            counts = LatencyCounts.from_json(data)
            known = latency.get(signal)
            over = dict(known.over) if known else {}
            for edge, count in counts.over.items():
                over[edge] = over.get(edge, 0) + count
            latency[signal] = LatencyCounts((known.total if known else 0) + counts.total, over)
    seconds = float(sums["seconds"] or 0.0)
    requests = int(sums["requests"] or 0)
    return _Traffic(requests / seconds if seconds else 0.0, requests, int(sums["errors"] or 0), latency)


def _forecast_steps(endpoint: Endpoint, plan: Plan, spec: ServingSpec) -> tuple[StepForecast, ...]:
    base = max(1, endpoint.stable.spec.replicas if endpoint.stable else 1)
    at = LAUNCH_GUESS_SECONDS
    rows = []
    for step in plan.steps:
        directions = step_directions(step.share_bp, float(spec.replicas), float(base))
        words = {
            (True, True): "fail and pass",
            (True, False): "fail only",
            (False, True): "pass only",
            (False, False): "nothing",
        }[(directions.may_fail, directions.may_pass)]
        load = (step.share_bp / spec.replicas) / ((FULL_SHARE_BP - step.share_bp) / base)
        rows.append(StepForecast(step.share_bp, at, at + step.hold_seconds, load, words))
        at += step.hold_seconds
    return tuple(rows)


def check_edge(gate: GateSpec, position: int, edges: Mapping[str, tuple[float, ...]]) -> None:
    if gate.kind == "latency_slo" and gate.slo_seconds is not None:
        require_edge(
            gate.slo_seconds, edges.get(gate.signal or "", ()), field=f"gates[{position}].slo_seconds"
        )


def _checks(
    endpoint: Endpoint,
    version: Version,
    spec: ServingSpec,
    plan: Plan,
    policy: GatePolicy,
    edges: Mapping[str, tuple[float, ...]],
    traffic: _Traffic,
    steps: tuple[StepForecast, ...],
    forecasts: tuple[PlanForecast, ...],
    name: str,
) -> tuple[Check, ...]:
    checks = [
        _check_files(version),
        _check_change(endpoint, name),
        _check_free(endpoint),
        _check_baseline(endpoint),
    ]
    if stop_is_on():
        checks.append(
            Check("refused", "The global stop is on", "Nothing starts.", "Lift the stop.", code="global-stop")
        )
    for position, gate in enumerate(policy.gates):
        try:
            check_edge(gate, position, edges)
        except InvalidInput as error:
            checks.append(
                Check(
                    "refused",
                    f"{gate.label}: {error.message}",
                    fix=error.fix,
                    field=error.field,
                    code=error.code,
                )
            )
    checks.append(_check_latency_steps(policy, steps))
    checks.append(_check_pass_share(policy, plan))
    if any(gate.kind == "paired" for gate in policy.gates) and endpoint.golden_set is None:
        checks.append(
            Check(
                "refused",
                "The endpoint has no golden set",
                "A gate needs one.",
                "Upload a golden set.",
                code="golden",
            )
        )
    checks.append(_check_traffic(traffic))
    for gate, forecast in zip(policy.gates, forecasts, strict=True):
        if gate.required and not forecast.passes_in_plan:
            checks.append(
                Check(
                    "warning",
                    f"{gate.label} may still be open when the last step ends",
                    "It then waits there for evidence; nothing is promoted without it.",
                )
            )
    return tuple(checks)


def _check_files(version: Version) -> Check:
    try:
        check_launchable(version)
    except Refused as error:
        return Check("refused", error.message.rstrip("."), fix=error.fix, code=error.code, field="version")
    return Check(
        "ok", "Manifest verified", f"{version.manifest_bytes / 1e6:,.1f} MB, hashed again before the launch"
    )


def _check_change(endpoint: Endpoint, name: str) -> Check:
    if endpoint.stable is not None and endpoint.stable.name == name:
        return Check(
            "refused",
            f"{name} is what serves now",
            "The same files with the same serving spec: nothing would change.",
            "Choose another version or change the serving spec.",
            field="version",
            code="no-change",
        )
    return Check("ok", f"New variant {name}", "its name is a hash of the files and the serving spec")


def _check_free(endpoint: Endpoint) -> Check:
    active = Rollout.objects.filter(endpoint=endpoint, phase__in=[phase.value for phase in ACTIVE]).first()
    if active is not None:
        return Check(
            "refused",
            f"Rollout #{active.pk} is active",
            "An endpoint has one at a time.",
            f"Wait for #{active.pk}, or roll it back.",
            code="rollout-active",
        )
    return Check("ok", "No other rollout is active", f"on {endpoint.name}")


def _check_baseline(endpoint: Endpoint) -> Check:
    workload = Workload.objects.filter(variant=endpoint.stable).first() if endpoint.stable else None
    if workload is None or workload.ready == 0:
        return Check(
            "refused",
            "The stable variant is not ready",
            "There is nothing to compare with, and nowhere to roll back to.",
            "Wait until it is ready.",
            code="baseline-not-ready",
        )
    return Check(
        "ok", "The stable variant is ready", f"{workload.ready} of {max(workload.desired, workload.ready)}"
    )


def _check_latency_steps(policy: GatePolicy, steps: tuple[StepForecast, ...]) -> Check:
    gates = [gate for gate in policy.gates if gate.kind == "latency_slo" and gate.required]
    deciding = [
        percent(step.share_bp) for step in steps if "pass" in step.latency and step.share_bp >= PASS_SHARE_BP
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
        "ok", "Steps are large enough for a pass", f"{percent(plan.steps[-1].share_bp)} at the last step"
    )


def _check_traffic(traffic: _Traffic) -> Check:
    if traffic.per_second <= 0:
        return Check(
            "warning",
            "No traffic in the last hour",
            f"Forecasts assume {ASSUMED_RATE:g} request/s; without traffic nothing is proven and nothing is promoted.",
        )
    return Check(
        "ok",
        f"{traffic.per_second:.1f} requests/s in the last hour",
        f"{traffic.requests:,} requests in {duration(traffic.requests / traffic.per_second)} measured",
    )
