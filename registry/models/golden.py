"""Golden sets: prompts with the answers that are expected. A revision is immutable."""

from __future__ import annotations

from typing import Any

from django.conf import settings
from django.db import models


class GoldenSet(models.Model):
    """One revision of a golden set. Uploading other examples under the same name makes the next revision."""

    name = models.SlugField(max_length=80)
    revision = models.PositiveIntegerField()
    digest = models.CharField(max_length=80)
    size = models.PositiveIntegerField(help_text="number of examples")
    created_by = models.ForeignKey(
        settings.AUTH_USER_MODEL, null=True, on_delete=models.SET_NULL, related_name="+"
    )
    created_at = models.DateTimeField()

    class Meta:
        ordering = ["name", "-revision"]
        constraints = [
            models.UniqueConstraint(fields=["name", "revision"], name="registry_golden_revision_once")
        ]

    def __str__(self) -> str:
        return self.label

    @property
    def label(self) -> str:
        """`tickets@2`."""
        return f"{self.name}@{self.revision}"

    def save(self, *args: Any, **kwargs: Any) -> None:
        if not self._state.adding:
            raise TypeError("A golden set's revision is immutable: upload a new one.")
        super().save(*args, **kwargs)


class GoldenExample(models.Model):
    """One prompt of a golden set. `position` counts from 0 in the order of the upload."""

    class Scorer(models.TextChoices):
        EXACT = "exact"
        CONTAINS = "contains"
        TOKEN_F1 = "token_f1"  # noqa: S105  (a scorer's name)
        JSON = "json"

    golden_set = models.ForeignKey(GoldenSet, on_delete=models.CASCADE, related_name="examples")
    position = models.PositiveIntegerField()
    messages = models.JSONField(help_text="[{role, content}], as the chat API takes them")
    expected = models.TextField()
    scorer = models.CharField(max_length=10, choices=Scorer.choices)
    max_tokens = models.PositiveIntegerField()

    class Meta:
        ordering = ["position"]
        constraints = [
            models.UniqueConstraint(fields=["golden_set", "position"], name="registry_example_once_a_set")
        ]

    def __str__(self) -> str:
        return f"{self.golden_set_id}:{self.position}"

    def save(self, *args: Any, **kwargs: Any) -> None:
        if not self._state.adding:
            raise TypeError("A golden set's revision is immutable: upload a new one.")
        super().save(*args, **kwargs)
