"""The Django project. Importing it binds shared tasks to Headgate's Celery application in every process."""

from controlplane.config.celery import app as celery_app

__all__ = ["celery_app"]
