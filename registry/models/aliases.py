"""Aliases as they are now, and every move that was seen or made."""

from __future__ import annotations

from django.db import models

from registry.models.versions import Model, Version


class Alias(models.Model):
    """Where an alias of a model points now."""

    model = models.ForeignKey(Model, on_delete=models.CASCADE, related_name="aliases")
    name = models.CharField(max_length=256)
    version = models.ForeignKey(Version, on_delete=models.CASCADE, related_name="aliases")

    class Meta:
        ordering = ["name"]
        constraints = [models.UniqueConstraint(fields=["model", "name"], name="registry_alias_once_a_model")]

    def __str__(self) -> str:
        return self.name


class AliasMove(models.Model):
    """One move of an alias: the history that MLflow does not keep.

    `version` is None when the alias was removed, `previous` is None when it was new. `by` says who in words:
    a person's name, `rollout 126`, or `by hand in MLflow`. A move of ours is written down before MLflow is
    asked (`moved_at` is None until it was seen there), so that the mirror never takes it for somebody else's.
    """

    model = models.ForeignKey(Model, on_delete=models.CASCADE, related_name="alias_moves")
    alias = models.CharField(max_length=256)
    version = models.ForeignKey(Version, null=True, on_delete=models.CASCADE, related_name="+")
    previous = models.ForeignKey(Version, null=True, on_delete=models.CASCADE, related_name="+")
    asked_at = models.DateTimeField()
    moved_at = models.DateTimeField(null=True)
    by = models.CharField(max_length=200)
    why = models.TextField(blank=True)

    class Meta:
        ordering = ["-id"]
        indexes = [models.Index(fields=["model", "-id"], name="registry_moves_of_model")]

    def __str__(self) -> str:
        return f"{self.alias} -> {self.version.label if self.version else 'none'}"
