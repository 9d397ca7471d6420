"""The page of a new rollout: choices on the left, the live plan (dry run) on the right."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from datetime import datetime

from controlplane.access.actors import Actor
from controlplane.access.models import User
from controlplane.kernel.errors import InvalidInput
from controlplane.kernel.words import number_text
from registry import selectors as registry_selectors
from registry.models import Version
from registry.selectors import VersionRow
from rollouts import selectors
from rollouts.domain.gates.policy import GateSpec
from rollouts.domain.gates.weaker import Weakening
from rollouts.domain.lifecycle.states import ACTIVE, Phase
from rollouts.models import Endpoint, Rollout
from rollouts.services.commands.start import Preview, preview_rollout
from rollouts.services.policies.own import weaker_than_endpoint
from rollouts.services.world import Edges, Worlds
from rollouts.ui.new.form import Draft, NewRolloutForm, RolloutGateFields, field_of
from rollouts.ui.new.part import FormPart, PlanWords
from rollouts.ui.new.plan import PlanPanel, panel
from rollouts.ui.parts.gate_words import hint_of
from rollouts.ui.strategies import SHOWN

VERSIONS_SHOWN = 9


@dataclass(frozen=True, slots=True)
class VersionChoice:
    number: int
    label: str
    hint: str
    tone: str
    state: str
    chosen: bool
    disabled: bool


@dataclass(frozen=True, slots=True)
class RolloutGateRow:
    """A gate of the form.

    weaker          in what it is weaker than the endpoint's gate
    below, above    the neighbouring edges in ms, when the objective is no edge
    """

    gate: GateSpec
    hint: str
    fields: RolloutGateFields
    problems: tuple[str, ...]
    weaker: tuple[str, ...]
    objective_problem: str
    below: str
    above: str


@dataclass(frozen=True, slots=True)
class NewRolloutPage:
    """What the template lays out.

    others          versions chosen besides the one that a strategy of one candidate takes, kept in mind
    strategies      (value, label, hint, chosen)
    part, template  what the chosen strategy is set by, and the template that shows it
    kept            (name, value) of what was typed for the other strategies
    words           how the chosen strategy calls what all have
    """

    endpoint: Endpoint
    endpoints: tuple[tuple[str, str, bool], ...]
    form: NewRolloutForm
    versions: tuple[VersionChoice, ...]
    more_versions: int
    version_problem: str
    others: tuple[str, ...]
    strategies: tuple[tuple[str, str, str, bool], ...]
    part: object
    template: str
    kept: tuple[tuple[str, str], ...]
    words: PlanWords
    gates: tuple[RolloutGateRow, ...]
    policy: str
    policy_is_own: bool
    arguments_problem: str
    plan: PlanPanel
    now: datetime


def endpoints_to_choose() -> list[Endpoint]:
    """All endpoints, for the choice."""
    return list(selectors.endpoints())


def newest_rollout(endpoint: Endpoint) -> Rollout | None:
    """The endpoint's newest rollout: its steps are the best guess for the next."""
    return Rollout.objects.filter(endpoint=endpoint).order_by("-id").first()


def build(
    *,
    endpoint: Endpoint,
    choices: Sequence[Endpoint],
    form: NewRolloutForm,
    draft: Draft,
    worlds: Worlds,
    user: User,
    address: str,
    now: datetime,
) -> NewRolloutPage:
    """The whole page; reads the versions and tries the rollout dry."""
    own = SHOWN[form.strategy].form
    edges = worlds.edges_of(endpoint.cluster.name)
    preview, problem = _preview(endpoint, draft, worlds, user, now)
    if problem is not None:
        draft = replace(draft, problems={**draft.problems, field_of(problem, own): problem})
    choosable, more = _choosable(endpoint, draft.versions)
    weaker = weaker_than_endpoint(endpoint, source=None, own=draft.own_policy)
    return NewRolloutPage(
        endpoint=endpoint,
        endpoints=tuple((one.name, _place(one), one.pk == endpoint.pk) for one in choices),
        form=form,
        versions=tuple(_versions(endpoint, form, choosable)),
        more_versions=more,
        version_problem=" ".join(_messages(draft, "version")),
        others=() if form.takes_several else form.versions[1:],
        strategies=tuple(
            (name, one.form.LABEL, one.form.HINT, name == form.strategy) for name, one in SHOWN.items()
        ),
        part=own.rows(
            form.parts[form.strategy],
            watch=form.watch,
            problems=lambda *names: _problems(draft, preview, own, *names),
        ),
        template=own.TEMPLATE,
        kept=tuple(
            pair
            for name, one in SHOWN.items()
            if name != form.strategy
            for pair in one.form.kept(form.parts[name])
        ),
        words=own.WORDS,
        gates=tuple(
            _gate_row(gate, fields, position, draft, edges or {}, weaker)
            for position, (gate, fields) in enumerate(
                zip(endpoint.gate_policy.policy.gates, form.gates, strict=True)
            )
        ),
        policy=str(draft.shared_policy),
        policy_is_own=draft.own_policy is not None,
        arguments_problem=" ".join(_problems(draft, preview, own, "arguments")),
        plan=panel(
            endpoint=endpoint,
            draft=draft,
            own=own,
            preview=preview,
            user=user,
            address=address,
            now=now,
        ),
        now=now,
    )


def newest_launchable(endpoint: Endpoint) -> str:
    """The number of the newest version that is not the stable one and may be launched; empty without one."""
    stable = endpoint.stable.version_id if endpoint.stable else None
    found = registry_selectors.newest_launchable(model_id=endpoint.model_id, besides=stable)
    return "" if found is None else str(found)


def _place(endpoint: Endpoint) -> str:
    current = [r for r in getattr(endpoint, "current_rollouts", ()) if Phase(r.phase) in ACTIVE]
    return f"{endpoint.environment}, #{current[0].pk} is active" if current else endpoint.environment


def _preview(
    endpoint: Endpoint,
    draft: Draft,
    worlds: Worlds,
    user: User,
    now: datetime,
) -> tuple[Preview | None, InvalidInput | None]:
    """The dry run, or why these versions and settings cannot be tried together."""
    if not draft.versions or draft.plan is None:
        return None, None
    first, *others = draft.versions
    try:
        found = preview_rollout(
            endpoint=endpoint,
            version_number=first,
            other_versions=others,
            plan=draft.plan,
            worlds=worlds,
            serving=draft.serving,
            own_policy=draft.own_policy,
            actor=Actor.person(user),
            now=now,
        )
    except InvalidInput as problem:
        return None, problem
    return found, None


def _problems(draft: Draft, preview: Preview | None, part: FormPart, *names: str) -> tuple[str, ...]:
    """What is wrong with these fields: how they were typed, and what the dry run refused."""
    refused = [check for check in preview.checks if check.state == "refused"] if preview else []
    found = [f"{check.title}. {check.fix}".strip() for check in refused if field_of(check, part) in names]
    return (*_messages(draft, *names), *found)


def _versions(endpoint: Endpoint, form: NewRolloutForm, found: Sequence[VersionRow]) -> list[VersionChoice]:
    stable = endpoint.stable.version_id if endpoint.stable else None
    rows = []
    for row in found:
        version = row.version
        is_stable = version.pk == stable
        if row.refusal:
            tone, state = "fail", "Refused"
        else:
            tone, state = ("mute", "Stable") if is_stable else ("pass", "Ready")
        rows.append(
            VersionChoice(
                number=version.number,
                label=version.label,
                hint=row.refusal or _version_hint(version, is_stable),
                tone=tone,
                state=state,
                chosen=str(version.number) in (form.versions if form.takes_several else form.versions[:1]),
                disabled=bool(row.refusal),
            )
        )
    return rows


def _choosable(endpoint: Endpoint, chosen: Sequence[int]) -> tuple[list[VersionRow], int]:
    """The newest versions, and of the older ones those that are chosen: what is started is always to be seen. With how
    many are not shown. Two queries, two more for a model of many versions."""
    newest = registry_selectors.page_versions(model_id=endpoint.model_id, limit=VERSIONS_SHOWN)
    if newest.next_before is None:
        return list(newest.rows), 0
    older = registry_selectors.page_versions(
        model_id=endpoint.model_id, before=newest.next_before, among=chosen, limit=VERSIONS_SHOWN
    ).rows
    left = registry_selectors.count_versions(model_id=endpoint.model_id, before=newest.next_before)
    return [*newest.rows, *older], left - len(older)


def _version_hint(version: Version, is_stable: bool) -> str:
    best = [
        f"{name.replace('_', ' ')} {number_text(value)}"
        for name, value in sorted(version.metrics.items())[:2]
    ]
    words = ", ".join(best) or version.run_name or "no metrics"
    return f"Serves now. {words}" if is_stable else words


def _messages(draft: Draft, *names: str) -> tuple[str, ...]:
    return tuple(
        f"{p.message} {p.fix}".strip() for name in names if (p := draft.problems.get(name)) is not None
    )


def _gate_row(
    gate: GateSpec,
    fields: RolloutGateFields,
    position: int,
    draft: Draft,
    edges: Edges,
    weaker: Sequence[Weakening],
) -> RolloutGateRow:
    where = f"gates[{position}]"
    hint = "share of requests over" if gate.kind == "latency_slo" else hint_of(gate)
    objective, below, above = _messages(draft, f"{where}.slo_seconds"), "", ""
    if gate.kind == "latency_slo" and not objective:
        known = sorted(edges.get(gate.signal or "", ()))
        slo = draft.policy.gate(gate.key).slo_seconds or 0.0
        if known and slo not in known:
            below = next((_ms(edge) for edge in reversed(known) if edge < slo), "")
            above = next((_ms(edge) for edge in known if edge > slo), "")
            objective = ("No bucket edge.",)
    names = [f"{where}.{name}" for name in ("mode", "ratio", "delta", "margin", "weight", "required")]
    problems = _messages(draft, *names, *(["gates"] if position == 0 else []))
    prefix = f"gates.{gate.key}."
    lost = tuple(
        f"Weaker {one.field.removeprefix(prefix)}: {one.before} → {one.after}"
        for one in weaker
        if one.field.startswith(prefix)
    )
    return RolloutGateRow(gate, hint, fields, problems, lost, " ".join(objective), below, above)


def _ms(seconds: float) -> str:
    return f"{round(seconds * 1000, 3):g}"
