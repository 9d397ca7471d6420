"""Rollouts as a Django app."""

from django.apps import AppConfig


class RolloutsConfig(AppConfig):
    name = "rollouts"

    def ready(self) -> None:
        from rollouts.ui import metrics, shell

        shell.register()
        metrics.register()
