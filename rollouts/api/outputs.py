"""What the API answers about endpoints and rollouts. Forms only: no logic."""

from __future__ import annotations

from typing import Any

from rest_framework import serializers

from controlplane.api.rows import EachByItself
from rollouts.api.feedback_outputs import UncountedRatingsOutput
from rollouts.api.forms import PlanField, ServingField
from rollouts.api.verdict_outputs import MomentField, OutageOutput
from rollouts.domain.engines import WorkloadPhase
from rollouts.domain.lifecycle.states import PauseReason, Phase
from rollouts.domain.restored import RestoredState

PHASES = [(phase.value, phase.value) for phase in Phase]
PAUSE_REASONS = [(reason.value, reason.value) for reason in PauseReason]
WORKLOAD_PHASES = [(phase.value, phase.value) for phase in WorkloadPhase]
DROP_CAUSES = [
    (cause, cause) for cause in ("evidence", "guardrail", "fast-kill", "launch", "workload", "person")
]


class VariantBrief(serializers.Serializer[Any]):
    """A variant by name, with the number of its version."""

    name = serializers.CharField()
    version = serializers.IntegerField(source="version.number")


class WorkloadOutput(serializers.Serializer[Any]):
    """A variant on its cluster, as last seen."""

    phase = serializers.ChoiceField(choices=WORKLOAD_PHASES)
    ready = serializers.IntegerField(help_text="ready replicas")
    desired = serializers.IntegerField(help_text="replicas that there should be")
    restarts = serializers.IntegerField(help_text="of the replica that was restarted most often")
    reason = serializers.CharField(help_text="why it failed, in one word")
    message = serializers.CharField()
    drift = serializers.CharField(
        help_text="what somebody changed of it in the cluster since its launch, and who; empty: nothing. It is left so"
    )
    ready_at = serializers.DateTimeField(
        allow_null=True, help_text="since when it is ready; the first time with all its replicas"
    )
    observed_at = serializers.DateTimeField(allow_null=True)


class VariantOutput(VariantBrief):
    """An immutable bundle of a version and how it is served."""

    class Meta:
        list_serializer_class = EachByItself

    digest = serializers.CharField()
    serving = ServingField(source="public_serving")
    created_at = serializers.DateTimeField()
    workload = WorkloadOutput()


class OutcomesOutput(serializers.Serializer[Any]):
    """How an arm's requests ended: each in exactly one class. The total is their sum with `running`."""

    answered = serializers.IntegerField(help_text="whole answers of the arm itself")
    refused_request = serializers.IntegerField(help_text="4xx of the engine: 400, 404, 413, 422 and the like")
    refused_rate = serializers.IntegerField(help_text="429 of the engine")
    refused_gateway = serializers.IntegerField(help_text="refused by the gateway after an arm was drawn")
    failed = serializers.IntegerField(help_text="5xx, resets, broken streams, errors inside a stream")
    fallback = serializers.IntegerField(help_text="answered by another arm, unseen by the user")
    abandoned_before = serializers.IntegerField(help_text="the client left before the first token")
    abandoned_midway = serializers.IntegerField(help_text="the client left during the answer")
    running = serializers.IntegerField(help_text="had not ended when last counted")


class CompletionsOutput(serializers.Serializer[Any]):
    """What an arm's engine says of the completions it finished, probes and forced requests among them."""

    total = serializers.IntegerField(help_text="finished")
    empty = serializers.IntegerField(help_text="of those, without a word")
    truncated = serializers.IntegerField(help_text="of those, cut off at their length limit")
    filtered = serializers.IntegerField(help_text="of those, held back by a filter or a refusal it names")
    tokens = serializers.IntegerField(help_text="generated; the mean of an answer is tokens / total")


class ArmOutput(serializers.Serializer[Any]):
    """One variant inside a rollout: shares in basis points, counts over its whole life by assigned arm."""

    name = serializers.CharField(help_text="baseline, candidate, candidate-2 ...")
    variant = serializers.CharField(source="variant.name")
    version = serializers.IntegerField(source="variant.version.number")
    desired_bp = serializers.IntegerField()
    observed_bp = serializers.IntegerField()
    requests = serializers.IntegerField()
    errors = serializers.IntegerField()  # type: ignore[assignment]  # a field, not the form's errors
    fallbacks = serializers.IntegerField(
        help_text="of the errors: answered by another arm, unseen by the user"
    )
    failed = serializers.IntegerField(help_text="of the errors: those that reached the user")
    outcomes = OutcomesOutput(
        source="counted_outcomes", allow_null=True, help_text="null: not counted when it ran"
    )
    completions = CompletionsOutput(
        source="counted_completions", allow_null=True, help_text="null: its engine does not say"
    )
    dropped_at = serializers.DateTimeField(
        allow_null=True, help_text="when it left for good, with the others going on"
    )
    dropped_cause = serializers.ChoiceField(choices=DROP_CAUSES, allow_blank=True)
    dropped_sentence = serializers.CharField()


class RolloutOutput(serializers.Serializer[Any]):
    """A rollout. `reason` says in numbers why it is where it is, `next_step` what happens next."""

    class Meta:
        list_serializer_class = EachByItself

    id = serializers.IntegerField()
    endpoint = serializers.CharField(source="endpoint.name")
    baseline = VariantBrief()
    candidate = VariantBrief(help_text="of several the first one until there is a winner, then the winner")
    strategy = serializers.CharField()
    plan = PlanField()
    step = serializers.IntegerField(source="step_index", help_text="from 0; -1 before the first")
    gate_policy = serializers.CharField(
        help_text="NAME@VERSION; what `own_policy` was made from, if there is one"
    )
    own_policy = serializers.DictField(
        allow_null=True,
        help_text="what judges this rollout alone, no version of any name; null: `gate_policy` does",
    )
    attempt = serializers.IntegerField()
    phase = serializers.ChoiceField(choices=PHASES)
    pause_reason = serializers.ChoiceField(choices=PAUSE_REASONS)
    reason = serializers.CharField()
    next_step = serializers.CharField()
    cause = serializers.CharField(
        help_text="why it was rolled back or paused, for programs: gate:errors, person"
    )
    cause_sentence = serializers.CharField(help_text="the same for people, kept")
    revision = serializers.IntegerField(help_text="send it as expected_revision")
    arms = ArmOutput(many=True)
    note = serializers.CharField()
    created_by = serializers.CharField(source="created_by.username", default=None, allow_null=True)
    created_at = serializers.DateTimeField()
    traffic_at = serializers.DateTimeField(allow_null=True, help_text="when the candidate first had traffic")
    decided_at = serializers.DateTimeField(
        allow_null=True, help_text="when promotion or rollback was decided"
    )
    promoted_at = serializers.DateTimeField(allow_null=True)
    watching = serializers.BooleanField(help_text="promoted, and a failed gate would still return")
    watch_until = serializers.DateTimeField(allow_null=True)
    finished_at = serializers.DateTimeField(allow_null=True)


class RolloutBrief(serializers.Serializer[Any]):
    """A rollout by number."""

    id = serializers.IntegerField()
    phase = serializers.ChoiceField(choices=PHASES)
    candidate = VariantBrief()


class RestoredOutput(serializers.Serializer[Any]):
    """The database is an older copy than what serves, or another control plane is at work."""

    state = serializers.ChoiceField(
        choices=[state.value for state in RestoredState if state],
        help_text="watching, rival: nothing is changed until nobody else is at work; held: a person chooses; keeping,"
        " returning: that is carried out",
    )
    since = MomentField()
    served = serializers.DictField(
        child=serializers.IntegerField(), help_text="what the router does, once it is held"
    )
    believed = serializers.DictField(child=serializers.IntegerField(), help_text="what the database says")
    rollout = serializers.IntegerField(
        allow_null=True, help_text="that the database holds for active or watched"
    )
    unkept = serializers.DictField(
        child=serializers.CharField(), help_text="why a variant that serves cannot be kept, by name"
    )
    choice = serializers.CharField(help_text="the variant that was chosen to be kept")
    problem = serializers.CharField(help_text="why the choice is not carried out yet")


class EndpointOutput(serializers.Serializer[Any]):
    """A stable OpenAI-compatible address and what it serves. Shares in basis points by variant name."""

    class Meta:
        list_serializer_class = EachByItself

    name = serializers.CharField()
    environment = serializers.CharField()
    cluster = serializers.CharField()
    model = serializers.CharField()
    alias = serializers.CharField(help_text="MLflow alias that follows the stable version")
    alias_version = serializers.IntegerField(
        source="alias_number",
        allow_null=True,
        help_text="where the alias points in MLflow, as last read; null: it is not there",
    )
    alias_read_at = serializers.DateTimeField()
    alias_problem = serializers.CharField(
        source="untold_error",
        allow_null=True,
        help_text="why MLflow cannot be told; it is tried again for ever",
    )
    stable_deleted_at = serializers.DateTimeField(
        source="stable.version.gone_at",
        default=None,
        allow_null=True,
        help_text="when the stable version was found deleted in MLflow; it serves on from its verified files",
    )
    gate_policy = serializers.CharField()
    golden_set = serializers.CharField(allow_null=True)
    stable = VariantBrief(allow_null=True)
    previous = VariantBrief(allow_null=True, help_text="what it served before; warm while the watch lasts")
    desired_shares = serializers.DictField(child=serializers.IntegerField())
    observed_shares = serializers.DictField(child=serializers.IntegerField())
    observed_at = serializers.DateTimeField(allow_null=True)
    router_problem = serializers.CharField(
        help_text="the router's words when it refused a configuration, or that it accepted one and has not put it in "
        "force for longer than usual"
    )
    turn_problem = serializers.CharField(
        source="turn_error",
        allow_null=True,
        help_text="why the loop cannot work on it; it is tried again every few seconds",
    )
    rescue = serializers.BooleanField(
        help_text="whether a healthy variant that no gate blames answers for a dead one"
    )
    outage = OutageOutput(
        source="serving.lasting", allow_null=True, help_text="of the stable variant; null: it is in order"
    )
    restored = RestoredOutput(
        source="restored_copy",
        allow_null=True,
        help_text="the database is an older copy than what serves; null: it is not",
    )
    rollouts = RolloutBrief(
        source="current_rollouts", many=True, help_text="active, or watched after promotion"
    )
    uncounted_ratings = UncountedRatingsOutput()
    created_at = serializers.DateTimeField()


class EvidenceOutput(serializers.Serializer[Any]):
    """One interval: what was measured, what the gates said, what was decided. `digest` chains the rows."""

    index = serializers.IntegerField()
    ended_at = serializers.DateTimeField()
    interval = serializers.DictField()
    situation = serializers.DictField(
        help_text="what was decided on besides the evidence, and with what software"
    )
    verdicts = serializers.DictField()
    decision = serializers.DictField()
    digest = serializers.CharField()


class EvidencePage(serializers.Serializer[Any]):
    """Rows in order; ask on with `after` = the last index."""

    items = EvidenceOutput(many=True)


class HistoryOutput(serializers.Serializer[Any]):
    """Something that happened."""

    class Meta:
        list_serializer_class = EachByItself

    id = serializers.IntegerField()
    at = serializers.DateTimeField()
    rollout = serializers.IntegerField(source="rollout_id", allow_null=True)
    kind = serializers.CharField()
    title = serializers.CharField()
    detail = serializers.CharField()
    actor = serializers.CharField()


class GatePolicyOutput(serializers.Serializer[Any]):
    """A gate policy `name@version`; immutable."""

    class Meta:
        list_serializer_class = EachByItself

    name = serializers.CharField()
    version = serializers.IntegerField()
    digest = serializers.CharField()
    body = serializers.DictField()
    created_at = serializers.DateTimeField()
    created_by = serializers.CharField(help_text="empty for versions from before this was kept")
    note = serializers.CharField()


class GlobalStopOutput(serializers.Serializer[Any]):
    """While `on`, nothing in the installation moves forward. Rolling back is never stopped."""

    on = serializers.BooleanField()
    since = serializers.DateTimeField(allow_null=True)
    by = serializers.CharField(source="by.username", default=None, allow_null=True)
    why = serializers.CharField()
