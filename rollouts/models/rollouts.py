"""A rollout and its arms."""

from __future__ import annotations

from django.conf import settings
from django.db import models
from django.db.models import Q

from rollouts.domain.gates.policy import GatePolicy, stored_policy
from rollouts.domain.lifecycle.plan import Plan
from rollouts.domain.lifecycle.states import ACTIVE, PauseReason, Phase
from rollouts.domain.record.intervals import Completions, Outcomes
from rollouts.domain.strategies.plans import stored_plan
from rollouts.models.endpoints import Endpoint, GatePolicyVersion, Variant


class Rollout(models.Model):
    """Moves an endpoint from its baseline variant to a candidate; a bandit has several (`arms` is the truth), and
    `candidate` is the first of them until there is a winner, then the winner.

    `revision` grows with every change of state by anyone: people post the one they saw (409 when it moved on), and
    the loop drops a decision that was made on an older one.
    `reason` is the sentence the UI shows; `cause` the machine-readable word ("gate:golden-score", "person", ...).
    `own_policy` is a gate policy of this rollout alone, made from `gate_policy`; it is no version of that name.
    Whoever wants to know what the rollout is judged by reads `policy`, never `gate_policy.policy`.
    """

    endpoint = models.ForeignKey(Endpoint, on_delete=models.PROTECT, related_name="rollouts")
    baseline = models.ForeignKey(Variant, on_delete=models.PROTECT, related_name="+")
    candidate = models.ForeignKey(Variant, on_delete=models.PROTECT, related_name="+")
    gate_policy = models.ForeignKey(GatePolicyVersion, on_delete=models.PROTECT, related_name="rollouts")
    own_policy = models.JSONField(
        null=True, help_text="as GatePolicy.to_json() gives it; null: judged by gate_policy"
    )
    own_policy_digest = models.CharField(max_length=71, default="", blank=True)
    strategy = models.CharField(max_length=20, default="canary", help_text='"canary" or "bandit"')
    plan = models.JSONField()
    plan_digest = models.CharField(max_length=71)
    attempt = models.PositiveIntegerField(default=1, help_text="how often this candidate was tried here")

    phase = models.CharField(
        max_length=14, choices=[(p.value, p.value) for p in Phase], default=Phase.PENDING.value
    )
    pause_reason = models.CharField(
        max_length=14, choices=[(r.value, r.value) for r in PauseReason], default="", blank=True
    )
    reason = models.TextField(default="", blank=True)
    next_step = models.TextField(default="", blank=True, help_text="what happens next, in numbers")
    cause = models.CharField(max_length=80, default="", blank=True)
    cause_sentence = models.TextField(
        default="", blank=True, help_text="kept: why it was rolled back or paused"
    )
    revision = models.PositiveIntegerField(default=1)

    step_index = models.IntegerField(default=-1)
    phase_since = models.DateTimeField()
    step_since = models.DateTimeField(null=True, help_text="when the router had this step's share in force")
    step_requests = models.PositiveBigIntegerField(default=0)
    measured_at = models.DateTimeField(
        null=True, help_text="end of the last interval in which anything was measured"
    )
    unread_at = models.DateTimeField(
        null=True,
        help_text="end of the last interval in which the source of the measurements could not be read",
    )
    promoted_at = models.DateTimeField(null=True)
    watch_until = models.DateTimeField(null=True)
    watching = models.BooleanField(default=False)

    gates_state = models.JSONField(default=dict)
    verdicts = models.JSONField(default=dict, help_text="the last assessment as JSON, for pages")
    next_interval = models.PositiveIntegerField(default=0)
    feedback_interval = models.PositiveIntegerField(
        default=0, help_text="first interval whose ratings are not yet fed"
    )
    next_decision = models.PositiveIntegerField(
        default=0, help_text="decisions recorded between intervals so far: a removed one is missed"
    )

    probing_until = models.DateTimeField(
        null=True,
        help_text="until when a round of its probes is a worker's; in the past: when the last one ended",
    )
    probes_hang = models.BooleanField(
        default=False, help_text="its last round of probes took as long as an engine that gives no answer"
    )

    created_by = models.ForeignKey(
        settings.AUTH_USER_MODEL, null=True, on_delete=models.PROTECT, related_name="+"
    )
    note = models.TextField(default="", blank=True)
    created_at = models.DateTimeField()
    traffic_at = models.DateTimeField(null=True, help_text="when the candidate first had traffic")
    decided_at = models.DateTimeField(null=True, help_text="when promotion or rollback was decided")
    finished_at = models.DateTimeField(null=True)
    evidence_forgotten_at = models.DateTimeField(
        null=True, help_text="when what it was decided on was deleted, its retention being over"
    )

    class Meta:
        constraints = [
            models.UniqueConstraint(
                fields=["endpoint"],
                condition=Q(phase__in=sorted(p.value for p in ACTIVE)),
                name="one_active_rollout_an_endpoint",
            )
        ]
        ordering = ["-id"]
        indexes = [models.Index(fields=["phase"]), models.Index(fields=["endpoint", "-id"])]

    def __str__(self) -> str:
        return f"#{self.pk}"

    @property
    def is_active(self) -> bool:
        return Phase(self.phase) in ACTIVE

    @property
    def policy(self) -> GatePolicy:
        """What it is judged by: its own policy, or the shared one. Reads `gate_policy`: select it with it."""
        return self.gate_policy.policy if self.own_policy is None else stored_policy(self.own_policy)

    @property
    def policy_words(self) -> str:
        """`NAME@VERSION`, or `policy of this rollout, from NAME@VERSION`."""
        return (
            str(self.gate_policy)
            if self.own_policy is None
            else f"policy of this rollout, from {self.gate_policy}"
        )

    @property
    def parsed_plan(self) -> Plan:
        return stored_plan(self.plan)


class Arm(models.Model):
    """One variant inside a rollout. Shares in basis points; counts over the whole life, by assigned arm.

    An arm that was dropped never has traffic again. A baseline that cannot win any more is not dropped: the others
    are compared with it.
    """

    rollout = models.ForeignKey(Rollout, on_delete=models.CASCADE, related_name="arms")
    variant = models.ForeignKey(Variant, on_delete=models.PROTECT, related_name="+")
    name = models.CharField(max_length=20, help_text='"baseline", "candidate", "candidate-2" ...')
    desired_bp = models.PositiveIntegerField(default=0)
    observed_bp = models.PositiveIntegerField(default=0)
    requests = models.PositiveBigIntegerField(default=0)
    errors = models.PositiveBigIntegerField(default=0)
    fallbacks = models.PositiveBigIntegerField(
        default=0, help_text="answered by another arm: no user saw an error"
    )
    failed = models.PositiveBigIntegerField(default=0, help_text="errors that reached the user")
    outcomes = models.JSONField(default=dict, help_text="Outcomes as JSON; empty: not counted then")
    completions = models.JSONField(
        default=dict,
        help_text="Completions as JSON; empty: the engine did not say, or it was not counted then",
    )
    proven_at = models.DateTimeField(
        null=True,
        help_text="when it last answered a request that was forced to it, before any user was sent there",
    )
    proof = models.CharField(
        max_length=71,
        default="",
        blank=True,
        help_text="digest of the route and the process by which it answered",
    )
    dropped_at = models.DateTimeField(null=True, help_text="when it left a bandit's race, for good")
    dropped_cause = models.CharField(
        max_length=12,
        default="",
        blank=True,
        choices=[
            (cause, cause) for cause in ("evidence", "guardrail", "fast-kill", "launch", "workload", "person")
        ],
    )
    dropped_sentence = models.TextField(default="", blank=True, help_text="why, with numbers")

    class Meta:
        constraints = [models.UniqueConstraint(fields=["rollout", "name"], name="arm_name")]
        ordering = ["rollout", "id"]

    @property
    def counted_outcomes(self) -> Outcomes | None:
        """How its requests ended; None when that was not counted."""
        return Outcomes.from_json(self.outcomes) if self.outcomes else None

    @property
    def counted_completions(self) -> Completions | None:
        """What its engine said of its completions; None when it never said."""
        return Completions.from_json(self.completions) if self.completions else None
