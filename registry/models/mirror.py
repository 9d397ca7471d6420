"""How the mirror of the model store is doing."""

from __future__ import annotations

from django.db import models


class MirrorState(models.Model):
    """The one row that says when the store was last read, and what went wrong since. Its key is always 1.

    last_success_at   when a pass last came to its end
    models_read_at    when the models were last compared with the store: also by a pass that broke off later. Models
                      that it did not come to have a time of their own (`Model.last_read_at`)
    """

    last_success_at = models.DateTimeField(null=True)
    models_read_at = models.DateTimeField(null=True)
    last_error = models.TextField(blank=True)
    last_error_at = models.DateTimeField(null=True)

    class Meta:
        constraints = [models.CheckConstraint(condition=models.Q(id=1), name="registry_one_mirror_state")]

    def __str__(self) -> str:
        return self.last_error or f"read at {self.last_success_at}"

    @property
    def is_down(self) -> bool:
        """True when the last attempt failed."""
        if self.last_error_at is None:
            return False
        return self.last_success_at is None or self.last_success_at < self.last_error_at


class HookDelivery(models.Model):
    """A webhook delivery that was accepted; the store sends the same one up to four times."""

    delivery_id = models.CharField(max_length=100, unique=True)
    received_at = models.DateTimeField(db_index=True)

    def __str__(self) -> str:
        return self.delivery_id
