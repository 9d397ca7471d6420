from typing import Any

from django.apps.registry import Apps
from django.db import migrations, models
from django.db.backends.base.schema import BaseDatabaseSchemaEditor


def to_references(apps: Apps, schema_editor: BaseDatabaseSchemaEditor) -> None:
    """An engine's host and port become a backend of kind "address"; published routes say the same."""
    for row in apps.get_model("rollouts", "Workload").objects.filter(port__gt=0).iterator():
        row.backend = _reference(row.host, row.port)
        row.save(update_fields=["backend"])
    for row in apps.get_model("rollouts", "Endpoint").objects.exclude(applied={}).iterator():
        backends = row.applied.get("backends", [])
        row.applied["backends"] = [
            {"variant": one["variant"], **_reference(one["host"], one["port"])} if "host" in one else one
            for one in backends
        ]
        row.save(update_fields=["applied"])


def _reference(host: str, port: int) -> dict[str, Any]:
    shown = f"[{host}]" if ":" in host else host
    return {"kind": "address", "name": "", "address": f"{shown}:{port}"}


def to_addresses(apps: Apps, schema_editor: BaseDatabaseSchemaEditor) -> None:
    """Back: only what has an address. The next turn publishes every route anew."""
    for row in apps.get_model("rollouts", "Workload").objects.exclude(backend={}).iterator():
        found = _host_and_port(row.backend)
        if found is not None:
            row.host, row.port = found
            row.save(update_fields=["host", "port"])


def _host_and_port(backend: dict[str, Any]) -> tuple[str, int] | None:
    if backend["kind"] != "address":
        return None  # what the cluster resolves by itself may look like an address, with a port by name
    host, _, port = backend["address"].rpartition(":")
    return host.removeprefix("[").removesuffix("]"), int(port)


class Migration(migrations.Migration):
    dependencies = [
        ("rollouts", "0017_files_and_claims_of_probes"),
    ]

    operations = [
        migrations.AddField(
            model_name="workload", name="backend", field=models.JSONField(blank=True, default=dict)
        ),
        migrations.RunPython(to_references, to_addresses),
        migrations.RemoveField(model_name="workload", name="host"),
        migrations.RemoveField(model_name="workload", name="port"),
    ]
