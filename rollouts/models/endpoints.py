"""Where variants run, what an endpoint is, and which bundles it can run."""

from __future__ import annotations

import re
from typing import Any, NoReturn

from django.core.exceptions import ValidationError
from django.core.validators import RegexValidator
from django.db import models
from django.db.models import Q

from rollouts.domain.clusters import ClusterSpec
from rollouts.domain.engines import WorkloadPhase
from rollouts.domain.gates.policy import GatePolicy, stored_policy
from rollouts.domain.restored import RestoredState
from rollouts.domain.serving import Serving
from rollouts.domain.uncounted import Uncounted
from rollouts.domain.variants import ServingSpec

NAME_PATTERN = r"^[a-z](?:[a-z0-9-]{0,38}[a-z0-9])?$"
name_validator = RegexValidator(
    NAME_PATTERN, "Lower-case letters, digits and dashes, at most 40, a letter first."
)


def check_name(name: str) -> None:
    """Raises ValidationError for what is no name. The validator alone lets a line break at the end pass: `$` does."""
    name_validator(name)
    if re.fullmatch(NAME_PATTERN, name) is None:
        raise ValidationError(str(name_validator.message))


class Cluster(models.Model):
    """A place where variants run. `kind` chooses the adapters, `configuration` is what that kind needs to know, and
    `secret` names a file of the operator's folder of secrets. A row may be one that nothing here understands: that
    cluster cannot be used then, and says why. `belongings` is what was found there that no endpoint uses, `trials`
    what its gateway was seen to do."""

    name = models.CharField(max_length=40, unique=True, validators=[name_validator])
    kind = models.CharField(max_length=20)
    configuration = models.JSONField(default=dict, blank=True)
    secret = models.CharField(max_length=100, default="", blank=True)
    belongings = models.JSONField(
        default=dict,
        blank=True,
        help_text="what lay there when last looked (Belongings as JSON); empty: never",
    )
    trials = models.JSONField(
        default=dict,
        blank=True,
        help_text="what its gateway was seen to do when it was tried (Trials as JSON); empty: it was not",
    )
    trying_until = models.DateTimeField(
        null=True,
        blank=True,
        help_text="until when a worker has its gateway to try; in the past: when one had last",
    )

    def __str__(self) -> str:
        return self.name

    @property
    def spec(self) -> ClusterSpec:
        """What the row says, as it is: not checked."""
        return ClusterSpec(self.name, self.kind, self.configuration, self.secret)


class ImmutableQuerySet(models.QuerySet["GatePolicyVersion"]):
    """Reads only: what is written stays as it is."""

    def update(self, **kwargs: Any) -> NoReturn:
        raise TypeError("A version of a gate policy is immutable: define the next one.")

    def delete(self) -> NoReturn:
        raise TypeError("A version of a gate policy is kept for good: rollouts were decided by it.")


class GatePolicyVersion(models.Model):
    """A gate policy `name@version`; immutable. `body` is what `GatePolicy.to_json()` gives.

    `created_by` is who stored it as history shows it (empty: from before that was kept), `note` why.
    """

    name = models.CharField(max_length=60)
    version = models.PositiveIntegerField()
    body = models.JSONField()
    digest = models.CharField(max_length=71)
    created_at = models.DateTimeField()
    created_by = models.CharField(max_length=150, default="", blank=True)
    note = models.TextField(default="", blank=True)

    objects = ImmutableQuerySet.as_manager()

    class Meta:
        constraints = [models.UniqueConstraint(fields=["name", "version"], name="gate_policy_name_version")]
        ordering = ["name", "-version"]
        base_manager_name = "objects"

    def __str__(self) -> str:
        return f"{self.name}@{self.version}"

    def save(self, *args: Any, **kwargs: Any) -> None:
        if not self._state.adding:
            raise TypeError("A version of a gate policy is immutable: define the next one.")
        super().save(*args, **kwargs)

    def delete(self, *args: Any, **kwargs: Any) -> NoReturn:
        raise TypeError("A version of a gate policy is kept for good: rollouts were decided by it.")

    @property
    def policy(self) -> GatePolicy:
        return stored_policy(self.body)


class Endpoint(models.Model):
    """A stable OpenAI-compatible address.

    `desired_shares` is what we want the router to do (variant name -> basis points), `applied` what we last published
    and read back (a whole route as JSON). They differ while a change is under way; a router that differs from
    `applied` was changed by hand, which is respected and shown as drift.
    `rescue` lets a healthy variant that no gate blames answer for a dead one, the baseline too.
    The lease columns let one worker at a time reconcile the endpoint; `fencing_token` only grows.
    `jumps_settled` is the number of the last jump of the clock that the endpoint's times were moved by; empty until the
    loop first looks.
    `restored_state` is not empty while router and cluster know a newer writer than this database: it was restored from
    a copy, or another control plane is at work (`rollouts.domain.restored`). Nothing is decided or changed then.
    """

    name = models.CharField(max_length=40, unique=True, validators=[name_validator])
    environment = models.CharField(max_length=40, default="production")
    cluster = models.ForeignKey(Cluster, on_delete=models.PROTECT, related_name="endpoints")
    model = models.ForeignKey("registry.Model", on_delete=models.PROTECT, related_name="endpoints")
    gate_policy = models.ForeignKey(GatePolicyVersion, on_delete=models.PROTECT, related_name="+")
    golden_set = models.ForeignKey(
        "registry.GoldenSet", null=True, blank=True, on_delete=models.PROTECT, related_name="+"
    )
    stable = models.ForeignKey("Variant", null=True, on_delete=models.PROTECT, related_name="+")
    previous = models.ForeignKey("Variant", null=True, on_delete=models.PROTECT, related_name="+")
    alias = models.CharField(max_length=80, help_text="MLflow alias that follows the stable version")
    rescue = models.BooleanField(
        default=True, help_text="a healthy variant that no gate blames answers for a dead one"
    )
    created_at = models.DateTimeField()

    desired_shares = models.JSONField(default=dict)
    desired_fallback = models.CharField(max_length=80, default="", blank=True)
    applied = models.JSONField(default=dict)
    applied_at = models.DateTimeField(null=True)
    accepted_at = models.DateTimeField(
        null=True,
        help_text="since when the router has a route that it accepted and has not put in force; null: none",
    )
    observed_shares = models.JSONField(default=dict)
    observed_at = models.DateTimeField(null=True)
    router_problem = models.TextField(default="", blank=True)
    last_reading = models.JSONField(default=dict)
    outage = models.JSONField(
        default=dict, help_text="how the stable variant fares (Serving as JSON); empty: it is in order"
    )

    lease_owner = models.CharField(max_length=80, default="", blank=True)
    lease_until = models.DateTimeField(null=True)
    fencing_token = models.PositiveBigIntegerField(default=0)
    reconciled_at = models.DateTimeField(null=True)
    next_look_at = models.DateTimeField(
        null=True,
        db_index=True,
        help_text="when the loop looks again; empty: something was changed, look now",
    )
    jumps_settled = models.PositiveIntegerField(null=True)

    restored_state = models.CharField(
        max_length=12,
        default="",
        blank=True,
        choices=[(state.value, state.value) for state in RestoredState],
    )
    restored = models.JSONField(default=dict, help_text="Restored as JSON; empty: nothing to say")

    class Meta:
        ordering = ["name"]

    def __str__(self) -> str:
        return self.name

    @property
    def serving(self) -> Serving:
        """How its stable variant fares. Reads that variant."""
        return Serving.from_json(self.outage, variant=self.stable.name if self.stable is not None else "")

    @property
    def uncounted_ratings(self) -> Uncounted:
        """Ratings of the hours that were read with it (`selectors.endpoints_with_ratings`); else of all that are kept,
        which costs a query."""
        hours = self.uncounted_hours.all()
        return Uncounted(
            unverifiable=sum(hour.unverifiable for hour in hours),
            forced=sum(hour.forced for hour in hours),
            refused=sum(hour.refused for hour in hours),
        )

    @property
    def restored_copy(self) -> dict[str, Any] | None:
        """What is known while this database is an older copy (`Restored` as JSON, and `state`); None otherwise."""
        return {**self.restored, "state": self.restored_state} if self.restored_state else None


class Variant(models.Model):
    """An immutable bundle: a version and how it is served. Content-addressed, so that it exists once.

    `serving` holds secrets encrypted: whoever shows it takes `public_serving`.
    """

    endpoint = models.ForeignKey(Endpoint, on_delete=models.CASCADE, related_name="variants")
    version = models.ForeignKey("registry.Version", on_delete=models.PROTECT, related_name="variants")
    name = models.CharField(max_length=80, unique=True)
    digest = models.CharField(max_length=71)
    serving = models.JSONField()
    created_at = models.DateTimeField()

    class Meta:
        constraints = [
            models.UniqueConstraint(fields=["endpoint", "version", "digest"], name="variant_content")
        ]
        ordering = ["-created_at"]

    def __str__(self) -> str:
        return self.name

    @property
    def spec(self) -> ServingSpec:
        return ServingSpec.from_json(self.serving, stored=True)

    @property
    def public_serving(self) -> dict[str, Any]:
        """The serving spec as it may be shown: without the values of its secrets."""
        return self.spec.to_public()


class FilesState(models.TextChoices):
    """How far the files of a variant that is to be launched are. The loop asks for them and uses them; a pass beside it
    fetches and checks them (`rollouts.services.errands.fetching`)."""

    NONE = ""  # nobody waits for them: the launch is done, or none is asked for
    WANTED = "wanted"
    HERE = "here"  # on this machine, every byte compared with the manifest; or the cluster fetches them by itself
    FAILED = "failed"  # for good; `files_reason` and `files_note` say why


class Workload(models.Model):
    """A variant on its cluster: whether we want it to run, and what the cluster said last.

    backend     how a router reaches it, as the cluster said (`ports.Backend` without the variant); empty: not known
    ready_at    since when it is ready; null until all its replicas were for the first time since the launch
    files_at    until when its files were still coming, so that this time counts as no part of its launch
    files_note  how far they are, or what is wrong with them, as a sentence
    drift       what somebody changed of it in the cluster since its launch, and who, as a sentence; empty: nothing
    altered     because of which part of it something else ran than what was asked for, now or in the interval that is
                not counted yet; empty: nothing did
    """

    variant = models.OneToOneField(Variant, on_delete=models.CASCADE, related_name="workload")
    wanted = models.BooleanField(default=False)
    phase = models.CharField(
        max_length=12, choices=[(p.value, p.value) for p in WorkloadPhase], default=WorkloadPhase.ABSENT.value
    )
    backend = models.JSONField(default=dict, blank=True)
    ready = models.PositiveIntegerField(default=0)
    desired = models.PositiveIntegerField(default=0)
    restarts = models.PositiveIntegerField(default=0)
    reason = models.CharField(max_length=20, default="", blank=True)
    message = models.TextField(default="", blank=True)
    drift = models.TextField(default="", blank=True)
    altered = models.TextField(default="", blank=True)
    log_tail = models.JSONField(default=list, help_text="kept when the launch failed, so that it is not lost")
    process_started_at = models.FloatField(null=True)
    wanted_since = models.DateTimeField(null=True)
    files_state = models.CharField(
        max_length=6, choices=FilesState.choices, default=FilesState.NONE, blank=True
    )
    files_at = models.DateTimeField(null=True)
    files_note = models.TextField(default="", blank=True)
    files_reason = models.CharField(max_length=20, default="", blank=True)
    ready_at = models.DateTimeField(null=True)
    observed_at = models.DateTimeField(null=True)
    kv_cache_share = models.FloatField(null=True)
    running = models.FloatField(null=True)
    waiting = models.FloatField(null=True)

    class Meta:
        indexes = [
            models.Index(
                fields=["variant"], condition=Q(files_state="wanted"), name="workloads_that_wait_for_files"
            )
        ]

    def __str__(self) -> str:
        return f"{self.variant_id} {self.phase}"
