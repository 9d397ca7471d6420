"""What is stored encrypted, as a Django app."""

from django.apps import AppConfig


class SealingConfig(AppConfig):
    name = "controlplane.sealing"
    label = "sealing"
