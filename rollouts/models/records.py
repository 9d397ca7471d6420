"""What else is recorded of a rollout, so that it can be done again: decisions between intervals, packed evidence, and
replays that are under way."""

from __future__ import annotations

import uuid

from django.db import models

from rollouts.models.endpoints import GatePolicyVersion
from rollouts.models.rollouts import Rollout


class LoopDecision(models.Model):
    """A decision of the loop that changed something between two intervals of evidence: `after` intervals had been
    recorded. Decisions with an interval are in its row; what people do is in the audit trail.

    `digest` covers the row and the digest of the decision before it.
    """

    rollout = models.ForeignKey(Rollout, on_delete=models.CASCADE, related_name="decisions")
    number = models.PositiveIntegerField()
    after = models.PositiveIntegerField()
    situation = models.JSONField()
    decision = models.JSONField()
    digest = models.CharField(max_length=71)

    class Meta:
        constraints = [models.UniqueConstraint(fields=["rollout", "number"], name="decision_rollout_number")]
        ordering = ["rollout", "number"]


class EvidencePack(models.Model):
    """Old rows of evidence, compressed: `first` to `last`. The digests are inside, as they were written.

    rows        zlib of JSON lines; empty once the retention is over
    series      zlib of a JSON list: the same intervals added up until a chart can show them; kept
    digest      of the last row, to which the next one is chained
    """

    rollout = models.ForeignKey(Rollout, on_delete=models.CASCADE, related_name="packs")
    first = models.PositiveIntegerField()
    last = models.PositiveIntegerField()
    began_at = models.DateTimeField()
    ended_at = models.DateTimeField()
    rows = models.BinaryField()
    series = models.BinaryField()
    digest = models.CharField(max_length=71)

    class Meta:
        constraints = [models.UniqueConstraint(fields=["rollout", "first"], name="pack_rollout_first")]
        ordering = ["rollout", "first"]


class ReplayRun(models.Model):
    """A replay that takes longer than one request: where it stands. Whoever asks on does the next part.

    policy      another policy than the rollout's own, or null
    intervals, decisions    how many there were when it began; what comes later is not part of it
    ends        what the rollout kept of the last of them: {"gates_state", "verdicts"}
    state       the replay so far, as JSON; `done` of its rows (a compare-and-set: two callers do not count twice)
    """

    key = models.UUIDField(unique=True, default=uuid.uuid4, editable=False)
    rollout = models.ForeignKey(Rollout, on_delete=models.CASCADE, related_name="+")
    policy = models.ForeignKey(GatePolicyVersion, null=True, on_delete=models.PROTECT, related_name="+")
    intervals = models.PositiveIntegerField()
    decisions = models.PositiveIntegerField()
    ends = models.JSONField()
    state = models.JSONField()
    done = models.PositiveIntegerField(default=0)
    began_at = models.DateTimeField()
    changed_at = models.DateTimeField()
