"""Timekeeping as a Django app."""

from django.apps import AppConfig


class TimekeepingConfig(AppConfig):
    name = "controlplane.timekeeping"
    label = "timekeeping"
