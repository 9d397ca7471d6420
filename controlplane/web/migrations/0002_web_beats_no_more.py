"""The web process wrote a sign of life whenever it was asked for one. It does not any more: its last one goes."""

from __future__ import annotations

from typing import Any

from django.db import migrations


def forget_web(apps: Any, schema_editor: Any) -> None:
    apps.get_model("web", "Heartbeat").objects.filter(name="web").delete()


class Migration(migrations.Migration):
    dependencies = [("web", "0001_initial")]

    operations = [migrations.RunPython(forget_web, migrations.RunPython.noop)]
