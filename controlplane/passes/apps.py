"""Passes over many things as a Django app."""

from django.apps import AppConfig


class PassesConfig(AppConfig):
    name = "controlplane.passes"
    label = "passes"
