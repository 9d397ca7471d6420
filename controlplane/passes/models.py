"""What a pass remembers from one run to the next: the items that fail, and whether it runs now."""

from __future__ import annotations

from django.db import models


class ItemTrouble(models.Model):
    """One item that a pass could not do, until it can. Deleted with the first success.

    pass_name        such as `manifests`
    item             the item's key within the pass, such as a primary key
    label            what people call the item
    attempts         failures in a row
    error            the words of the last one, without secrets
    next_attempt_at  before this the pass leaves the item alone
    """

    pass_name = models.CharField(max_length=80)
    item = models.CharField(max_length=200)
    label = models.CharField(max_length=300)
    attempts = models.PositiveIntegerField(default=0)
    first_failed_at = models.DateTimeField()
    last_attempt_at = models.DateTimeField()
    next_attempt_at = models.DateTimeField()
    error = models.TextField()

    class Meta:
        ordering = ["pass_name", "first_failed_at", "id"]
        constraints = [
            models.UniqueConstraint(fields=["pass_name", "item"], name="passes_trouble_once_an_item")
        ]

    def __str__(self) -> str:
        return f"{self.pass_name} {self.label}: {self.error}"


class PassRun(models.Model):
    """A pass of which one run at a time is enough: held until then, free before the first run and after the last.

    resume_at  the item at which a run that was cut short stopped; the next one begins there
    """

    name = models.CharField(max_length=80, unique=True)
    held_until = models.DateTimeField(null=True)
    resume_at = models.CharField(max_length=200, default="", blank=True)

    def __str__(self) -> str:
        return self.name
