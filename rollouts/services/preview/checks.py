"""The checks of a dry run that do not depend on the strategy: each looks at one thing and has a fix."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from controlplane.kernel.errors import HeadgateError, InvalidInput, Refused, Unavailable
from controlplane.kernel.words import count_text, duration_of_seconds
from registry.models import Version
from rollouts.domain.capabilities import Capability
from rollouts.domain.engines import WorkloadPhase, short_words
from rollouts.domain.gates.plan_forecast import PlanForecast
from rollouts.domain.gates.policy import GatePolicy
from rollouts.domain.lifecycle.plan import Plan
from rollouts.domain.lifecycle.states import ACTIVE
from rollouts.domain.restored import RestoredState
from rollouts.domain.strategies import strategy_of
from rollouts.domain.strategies.dry_run import ASSUMED_RATE, Check
from rollouts.domain.traffic import MeasuredTraffic
from rollouts.domain.trials import MAKES_POSSIBLE, GatewayTrait, Trials
from rollouts.domain.variants import ServingSpec
from rollouts.models import Endpoint, Rollout, Workload
from rollouts.ports import TrafficRouter
from rollouts.services.commands.endpoints import check_launchable
from rollouts.services.commands.rollouts import hold_in_force, refusal_while_restored
from rollouts.services.commands.serving_specs import check_serving
from rollouts.services.world import Edges, Worlds


def candidate_checks(
    endpoint: Endpoint, version: Version, name: str, field: str, *, alone: bool
) -> list[Check]:
    """Of one candidate: its files, and whether it differs from what serves.

    field   how the call named it
    alone   the only candidate: two checks; else one that begins with the version, or those that are not ok
    """
    checks = [_check_files(version, field), _check_change(endpoint, name, field)]
    if alone:
        return checks
    failed = [
        replace(check, title=f"{version.label}: {check.title}") for check in checks if check.state != "ok"
    ]
    files, _ = checks
    return failed or [
        Check("ok", f"{version.label}: new variant {name}", f"{files.title.lower()}, {files.detail}")
    ]


def serving_checks(
    endpoint: Endpoint, versions: Sequence[Version], spec: ServingSpec, worlds: Worlds
) -> list[Check]:
    """Whether the endpoint's cluster would serve every candidate so. A check only where it would not; the same refusal
    for several candidates is one."""
    refusals: dict[tuple[str, str], HeadgateError] = {}
    for version in versions:
        try:
            cluster = worlds.of(endpoint.cluster.name).cluster
            if spec.adopts:
                raise _adopted_late()
            check_serving(spec=spec, version=version, cluster=cluster)
        except InvalidInput as error:
            refusals.setdefault((error.field, error.message), error)
        except Unavailable as error:
            refusals.setdefault(("", error.message), error)
    return [
        Check("refused", error.message.rstrip("."), fix=error.fix, field=field, code=error.code)
        for (field, _), error in refusals.items()
    ]


def _adopted_late() -> InvalidInput:
    return InvalidInput(
        "Headgate launches a candidate by itself: only a new endpoint can begin with a server that runs already.",
        field="serving.adopts",
        fix="Leave it out, or make an endpoint of its own.",
    )


def endpoint_checks(endpoint: Endpoint) -> list[Check]:
    """Whether a rollout may begin on this endpoint now."""
    checks = [_check_free(endpoint), _check_baseline(endpoint)]
    if endpoint.restored_state:
        refusal = refusal_while_restored(endpoint.name, RestoredState(endpoint.restored_state))
        checks.append(Check("refused", refusal.message.rstrip("."), fix=refusal.fix, code=refusal.code))
    held_by = hold_in_force()
    if held_by is not None:
        fix = f"It can begin when {held_by.ends}."
        checks.append(Check("refused", held_by.sentence, "Nothing starts.", fix, code=held_by.kind.value))
    return checks


def room_checks(endpoint: Endpoint, spec: ServingSpec, serving: int) -> list[Check]:
    """A warning where the candidate would get all traffic with fewer replicas than a server that was adopted has now:
    its owner may have added some since. `serving`: replicas that serve."""
    if endpoint.stable is None or not endpoint.stable.spec.adopts or spec.replicas >= serving:
        return []
    return [
        Check(
            "warning",
            f"{count_text(spec.replicas, 'replica')} of the candidate for {serving} of the server",
            "After a promotion it has all traffic. The server's owner may have added replicas since it was adopted.",
            f"Start it by the API with serving.replicas {serving}, or let the cluster's autoscaler add some.",
            field="serving.replicas",
            code="fewer-replicas",
        )
    ]


def policy_checks(endpoint: Endpoint, policy: GatePolicy, edges: Edges | None) -> list[Check]:
    """Whether every gate can be measured here."""
    checks = [
        Check(
            "refused",
            f"{policy.gates[position].label}: {error.message}",
            fix=error.fix,
            field=error.field,
            code=error.code,
        )
        for position, error in policy.edge_problems(edges).items()
    ]
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
    return checks


def check_traffic(traffic: MeasuredTraffic) -> Check:
    """Whether anything will be measured at all."""
    if traffic.per_second <= 0:
        return Check(
            "warning",
            "No traffic in the last hour",
            f"Forecasts assume {ASSUMED_RATE:g} request/s; without traffic nothing is proven and nothing is promoted.",
        )
    return Check(
        "ok",
        f"{traffic.per_second:.1f} requests/s in the last hour",
        f"{traffic.requests:,} requests in {duration_of_seconds(traffic.requests / traffic.per_second)} measured",
    )


def capability_checks(endpoint: Endpoint, plan: Plan, router: TrafficRouter | None) -> list[Check]:
    """What the router of the endpoint's cluster cannot do and is needed: refused where no rollout could go on without
    it, a warning where a promise becomes smaller. What was refuted there is missing, whatever is declared. Nothing
    while nobody knows the router."""
    if router is None:
        return []
    trials = Trials.from_json(endpoint.cluster.trials)
    missing = (frozenset(Capability) - router.capabilities()) | trials.missing
    needed = strategy_of(plan).NEEDS
    where = f"The router of {endpoint.cluster.name} cannot"
    checks = [*_refuted_zero(endpoint, trials, where)]
    checks += [
        Check(
            "refused",
            f"{where} {one.words}",
            " ".join([f"A {plan.strategy} needs that.", *_refuted_words(one, trials)]),
            "Serve the endpoint on a cluster whose router can.",
            code=f"no-{one.value}",
        )
        for one in sorted(missing & needed)
    ]
    if Capability.FALLBACK in missing - needed:
        checks.append(
            Check(
                "warning",
                f"{where} {Capability.FALLBACK.words}",
                "Whoever draws a dead variant gets an error, although another variant could have answered: requests"
                " are lost here until the loop has taken the dead variant's share away."
                + (
                    " That another variant answers for a dead one has no effect here."
                    if endpoint.rescue
                    else ""
                ),
                "Serve the endpoint on a cluster whose router can.",
                code=f"no-{Capability.FALLBACK.value}",
            )
        )
    return checks


def _refuted_zero(endpoint: Endpoint, trials: Trials, where: str) -> list[Check]:
    """Users must reach no candidate before it was proven that it answers: its first share is one that it is given."""
    found = trials.finding(GatewayTrait.KEEPS_ZERO)
    if found is None or found.holds:
        return []
    return [
        Check(
            "refused",
            f"{where} {found.trait.words}",
            f"When its gateway was tried, {found.words}. A candidate would get users before its first share.",
            "Have the gateway mended or replaced, and try it again: manage.py try_gateway"
            f" {endpoint.cluster.name}. Or serve the endpoint on another cluster.",
            code="no-zero-share",
        )
    ]


def _refuted_words(capability: Capability, trials: Trials) -> list[str]:
    """What the trial found against it, as a sentence; nothing where nothing was."""
    return [
        f"When its gateway was tried, {one.words}."
        for one in trials.findings
        if not one.holds and MAKES_POSSIBLE.get(one.trait) is capability
    ]


def forecast_checks(policy: GatePolicy, forecasts: Sequence[PlanForecast], end: str) -> list[Check]:
    """A warning for every required gate that may still be open at the end (`end`: "when the last step ends")."""
    return [
        Check(
            "warning",
            f"{gate.label} may still be open {end}",
            "It then waits there for evidence; nothing is promoted without it.",
        )
        for gate, forecast in zip(policy.gates, forecasts, strict=True)
        if gate.required and not forecast.passes_in_plan
    ]


def _check_files(version: Version, field: str) -> Check:
    try:
        check_launchable(version)
    except Refused as error:
        return Check("refused", error.message.rstrip("."), fix=error.fix, code=error.code, field=field)
    return Check(
        "ok", "Manifest verified", f"{version.manifest_bytes / 1e6:,.1f} MB, hashed again before the launch"
    )


def _check_change(endpoint: Endpoint, name: str, field: str) -> Check:
    if endpoint.stable is not None and endpoint.stable.name == name:
        return Check(
            "refused",
            f"{name} is what serves now",
            "The same files with the same serving spec: nothing would change.",
            "Choose another version or change the serving spec.",
            field=field,
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
    if workload.altered:
        return Check(
            "warning",
            "The stable variant does not run as it was asked for",
            f"Changed by hand: {workload.altered}. Nothing is proven by a comparison with it: the rollout holds at its "
            "first share.",
            "Undo it in the cluster, or promote by hand when it holds.",
            code="baseline-changed",
        )
    short = short_words(WorkloadPhase(workload.phase), workload.ready, workload.desired)
    if short:
        return Check(
            "warning",
            "The stable variant has a part of its replicas",
            f"{short.capitalize()}. It is compared all the same: latency "
            "under the load of those that are ready.",
            "Wait until all are ready, if it should be compared at its best.",
            code="baseline-short",
        )
    return Check(
        "ok", "The stable variant is ready", f"{workload.ready} of {max(workload.desired, workload.ready)}"
    )
