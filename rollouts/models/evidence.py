"""What was measured: evidence of rollouts, probe results, feedback, and minutes of each endpoint."""

from __future__ import annotations

from django.db import models

from rollouts.models.endpoints import Endpoint, Variant
from rollouts.models.rollouts import Rollout


class Evidence(models.Model):
    """One interval of a rollout: what was measured, what the gates said, what was decided on what: enough to do it
    all again (`rollouts.domain.record.replay`).

    `digest` covers the row and the digest of the row before it, so that a changed or missing row is found.
    """

    rollout = models.ForeignKey(Rollout, on_delete=models.CASCADE, related_name="evidence")
    index = models.PositiveIntegerField()
    ended_at = models.DateTimeField()
    interval = models.JSONField()
    situation = models.JSONField(
        default=dict, help_text="what was decided on besides the evidence: the rollout, what was seen, when"
    )
    verdicts = models.JSONField()
    decision = models.JSONField()
    digest = models.CharField(max_length=71)

    class Meta:
        constraints = [models.UniqueConstraint(fields=["rollout", "index"], name="evidence_rollout_index")]
        ordering = ["rollout", "index"]


class ProbeResult(models.Model):
    """One golden prompt sent to the baseline and a candidate arm. `number` counts the draws of the rollout: in a
    bandit each draw has one row an arm, and the baseline was asked once for all of them.

    `interval` is the interval that used it (null: not yet used). A probe that got no answer from one of the two has
    no scores and a problem; it is never scored as zero.
    """

    rollout = models.ForeignKey(Rollout, on_delete=models.CASCADE, related_name="probes")
    number = models.PositiveIntegerField()
    arm = models.CharField(max_length=20, default="candidate", help_text="the candidate arm's name")
    example = models.ForeignKey("registry.GoldenExample", on_delete=models.PROTECT, related_name="+")
    answer_baseline = models.TextField(default="", blank=True)
    answer_candidate = models.TextField(default="", blank=True)
    score_baseline = models.FloatField(null=True)
    score_candidate = models.FloatField(null=True)
    problem = models.TextField(default="", blank=True)
    asked_at = models.DateTimeField()
    interval = models.PositiveIntegerField(null=True)

    class Meta:
        constraints = [
            models.UniqueConstraint(fields=["rollout", "number", "arm"], name="probe_rollout_number")
        ]
        ordering = ["rollout", "number", "arm"]


class FeedbackState(models.TextChoices):
    """Only `verified` ratings enter gates."""

    PENDING = "pending"
    VERIFIED = "verified"
    UNVERIFIABLE = "unverifiable"  # the router never logged such a request, or another variant answered
    FORCED = "forced"  # the variant was forced: not ordinary traffic


class Feedback(models.Model):
    """A user's rating of one response; one a request.

    `looks` and `not_before` say how often the router's log was asked for a pending one in vain, and until when it is
    left alone because of that (empty: it may be looked for at once).
    """

    request_id = models.CharField(max_length=80, unique=True)
    endpoint = models.ForeignKey(Endpoint, on_delete=models.CASCADE, related_name="feedback")
    variant = models.CharField(max_length=80, help_text="who answered, as the rater says")
    up = models.BooleanField()
    comment = models.TextField(default="", blank=True)
    received_at = models.DateTimeField()
    state = models.CharField(max_length=12, choices=FeedbackState.choices, default=FeedbackState.PENDING)
    assigned = models.CharField(max_length=80, default="", blank=True)
    answered_at = models.DateTimeField(null=True)
    sent_by = models.CharField(
        max_length=240, default="", blank=True, help_text="the actor's name: a person, or a token of one"
    )
    looks = models.PositiveIntegerField(default=0)
    not_before = models.DateTimeField(null=True)

    class Meta:
        indexes = [
            models.Index(fields=["endpoint", "state", "answered_at"]),
            models.Index(fields=["state", "received_at"]),
            models.Index(
                fields=["endpoint", "looks", "not_before", "received_at"],
                condition=models.Q(state=FeedbackState.PENDING),
                name="feedback_to_look_for",
            ),
            models.Index(
                fields=["sent_by"],
                condition=models.Q(state=FeedbackState.PENDING),
                name="feedback_waiting_by_sender",
            ),
        ]


class UncountedRatings(models.Model):
    """One hour of an endpoint's ratings that count for nobody (`Uncounted`); an hour without any has no row; pruned
    like the samples. Increased in the database, because web processes and the loop add to the same row."""

    endpoint = models.ForeignKey(Endpoint, on_delete=models.CASCADE, related_name="uncounted_hours")
    hour = models.DateTimeField()
    unverifiable = models.PositiveBigIntegerField(default=0)
    forced = models.PositiveBigIntegerField(default=0)
    refused = models.PositiveBigIntegerField(default=0)

    class Meta:
        constraints = [models.UniqueConstraint(fields=["endpoint", "hour"], name="uncounted_ratings_hour")]
        ordering = ["endpoint", "hour"]


class MinuteSample(models.Model):
    """One minute of one variant of an endpoint, for the charts of the last 24 hours; pruned afterwards."""

    endpoint = models.ForeignKey(Endpoint, on_delete=models.CASCADE, related_name="samples")
    variant = models.ForeignKey(Variant, on_delete=models.CASCADE, related_name="+")
    minute = models.DateTimeField()
    requests = models.PositiveBigIntegerField(default=0)
    errors = models.PositiveBigIntegerField(default=0)
    seconds = models.FloatField(default=0.0)
    latency = models.JSONField(default=dict, help_text="signal -> LatencyCounts as JSON")
    ready = models.FloatField(default=0.0)
    kv_cache_share = models.FloatField(null=True)
    tokens = models.PositiveBigIntegerField(default=0)
    outcomes = models.JSONField(default=dict, help_text="Outcomes as JSON; empty: not counted then")
    completions = models.JSONField(
        default=dict,
        help_text="Completions as JSON; empty: the engine did not say, or it was not counted then",
    )

    class Meta:
        constraints = [
            models.UniqueConstraint(fields=["endpoint", "variant", "minute"], name="sample_minute")
        ]
        # The last minutes of all endpoints together, and what is old enough to be pruned.
        indexes = [models.Index(fields=["minute"], name="sample_by_minute")]
        ordering = ["endpoint", "minute"]


class OtherCalls(models.Model):
    """One minute of an endpoint's calls that belong to no variant, and of what was not counted; a minute without any
    has no row; pruned like the samples.

    no_inference    calls such as model lists and token counts
    turned_away     calls that the router refused before a variant was drawn
    unseen_seconds  so many seconds of the whole traffic were not counted: a process of the router restarted, is new,
                    has gone or did not answer
    """

    endpoint = models.ForeignKey(Endpoint, on_delete=models.CASCADE, related_name="other_calls")
    minute = models.DateTimeField()
    no_inference = models.PositiveBigIntegerField(default=0)
    turned_away = models.PositiveBigIntegerField(default=0)
    unseen_seconds = models.FloatField(default=0.0)

    class Meta:
        constraints = [models.UniqueConstraint(fields=["endpoint", "minute"], name="other_calls_minute")]
        ordering = ["endpoint", "minute"]
