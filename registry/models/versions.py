"""The mirror of registered models and their versions, with each version's manifest."""

from __future__ import annotations

from typing import Any

from django.db import models

from registry.domain.formats import FileClass, findings_of
from registry.domain.manifest import Manifest


class ManifestState(models.TextChoices):
    """What is known of a version's files. Only VERIFIED may be launched."""

    PENDING = "pending", "pending"  # not read yet
    VERIFIED = "verified", "verified"  # as they were at registration, the last time somebody looked
    CHANGED = "changed", "changed"  # a file differs from the manifest; `manifest_problem` names it
    FAILED = "failed", "failed"  # the files cannot be read, or are not only data


class Model(models.Model):
    """A registered model as the store last had it. A deleted one stays, with `gone_at` set.

    When it was last read is the same moment for nearly all models, so it stands once, in `MirrorState.models_read_at`;
    `last_read_at` is set only while a model lags behind that (`registry.selectors.last_read` knows both).

    A model that is renamed in the store keeps its row (`registry.services.renames` says how it is known again).
    """

    name = models.CharField(max_length=256, unique=True)
    description = models.TextField(blank=True)
    tags = models.JSONField(default=dict)
    former_name = models.CharField(max_length=256, blank=True, default="", help_text="before it was renamed")
    renamed_at = models.DateTimeField(null=True, help_text="when the mirror saw that it was renamed")
    stored_created_at = models.DateTimeField(null=True, help_text="when the store says that it was made")
    stored_updated_at = models.DateTimeField(help_text="when the store last changed it")
    versions_read_at = models.DateTimeField(null=True, help_text="when its versions were last read in full")
    last_read_at = models.DateTimeField(
        null=True, help_text="when it was last read, while it cannot be; null: whenever the store was read"
    )
    gone_at = models.DateTimeField(null=True, blank=True)
    gone_why = models.TextField(blank=True, default="", help_text="what else is known of its end")
    alias_epoch = models.PositiveIntegerField(
        default=0,
        help_text="grows with every change of an alias, so that an older read of the store is not applied",
    )
    write_token = models.PositiveBigIntegerField(
        default=0, help_text="of the newest claim to write to the store; grows with every claim"
    )
    write_until = models.DateTimeField(null=True, help_text="when that claim runs out; null: given back")

    class Meta:
        ordering = ["name"]

    def __str__(self) -> str:
        return self.name


class Version(models.Model):
    """A model version: what the store says of it, and the manifest of its files.

    `created_at` is the store's time. `params`, `metrics` and `datasets` come from the run and the LoggedModel
    and are empty until `details_at` is set. `manifest` is taken once, at first sight, and never replaced;
    what happens later is told by `manifest_state` and `manifest_problem`.
    """

    model = models.ForeignKey(Model, on_delete=models.CASCADE, related_name="versions")
    number = models.PositiveIntegerField()
    status = models.CharField(max_length=40, help_text="the store's word: READY, PENDING or FAILED")
    source = models.TextField(blank=True)
    run_id = models.CharField(max_length=64, blank=True)
    run_name = models.CharField(max_length=250, blank=True)
    logged_model_id = models.CharField(max_length=64, blank=True)
    description = models.TextField(blank=True)
    created_at = models.DateTimeField()
    tags = models.JSONField(default=dict, help_text="{name: text}")
    params = models.JSONField(default=dict, help_text="{name: text}")
    metrics = models.JSONField(default=dict, help_text="{name: number}")
    datasets = models.JSONField(default=list, help_text="[{name, digest, context}]")
    details_at = models.DateTimeField(null=True, blank=True)
    manifest = models.JSONField(null=True, blank=True, help_text="[{path, size, sha256}], sorted by path")
    file_classes = models.JSONField(
        null=True,
        blank=True,
        help_text="[{path, kind, why, finding}] as of the last check; null: last checked before there were classes",
    )
    manifest_digest = models.CharField(max_length=80, blank=True)
    manifest_bytes = models.BigIntegerField(default=0)
    manifest_state = models.CharField(
        max_length=10, choices=ManifestState.choices, default=ManifestState.PENDING
    )
    manifest_checked_at = models.DateTimeField(null=True, blank=True)
    manifest_problem = models.TextField(blank=True)
    manifest_claimed_until = models.DateTimeField(null=True, blank=True)
    gone_at = models.DateTimeField(null=True, blank=True)

    class Meta:
        ordering = ["-number"]
        constraints = [
            models.UniqueConstraint(fields=["model", "number"], name="registry_version_once_a_model")
        ]
        indexes = [
            models.Index(fields=["manifest_state", "-id"], name="registry_by_manifest_state"),
            models.Index(fields=["manifest_digest"], name="registry_by_digest"),
            models.Index(fields=["details_at"], name="registry_by_details"),
        ]

    def __str__(self) -> str:
        return f"{self.model.name} {self.label}"

    @property
    def label(self) -> str:
        """`v3`."""
        return f"v{self.number}"

    @property
    def manifest_value(self) -> Manifest | None:
        """The manifest as a domain value, or None before it was taken."""
        return None if self.manifest is None else Manifest.from_json(self.manifest)

    @property
    def classes(self) -> tuple[FileClass, ...]:
        """What each file is, by path; empty before the first check."""
        return tuple(FileClass.from_json(data) for data in self.file_classes or ())

    @property
    def files(self) -> list[dict[str, Any]] | None:
        """The manifest's entries with what each file is (kind "" before the first check); None before the manifest."""
        if self.manifest is None:
            return None
        unknown = {"kind": "", "why": "", "finding": ""}
        classes = {file["path"]: file for file in self.file_classes or ()}
        return [unknown | classes.get(entry["path"], {}) | entry for entry in self.manifest]

    @property
    def findings(self) -> tuple[str, ...]:
        """What people should know of the files, a sentence each: remote code, what the operator allowed."""
        return findings_of(self.classes, served=self.manifest_state == ManifestState.VERIFIED)

    @property
    def may_launch(self) -> bool:
        """True when its files were verified and the store still has it."""
        return self.manifest_state == ManifestState.VERIFIED and self.gone_at is None
