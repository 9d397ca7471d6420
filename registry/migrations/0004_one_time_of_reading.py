"""When models were last read stands once, in the mirror's own row, and at a model only while it lags behind."""

from typing import Any

from django.db import migrations, models
from django.db.models import F, Max


def take_over(apps: Any, schema_editor: Any) -> None:
    model, state = apps.get_model("registry", "Model"), apps.get_model("registry", "MirrorState")
    newest = model.objects.filter(gone_at=None).aggregate(at=Max("synced_at"))["at"]
    if newest is not None:
        state.objects.update_or_create(id=1, defaults={"models_read_at": newest})
    behind = model.objects.all() if newest is None else model.objects.exclude(gone_at=None, synced_at=newest)
    behind.update(last_read_at=F("synced_at"))


class Migration(migrations.Migration):
    dependencies = [
        ("registry", "0003_file_classes"),
    ]

    operations = [
        migrations.AddField(
            model_name="mirrorstate",
            name="models_read_at",
            field=models.DateTimeField(null=True),
        ),
        migrations.AddField(
            model_name="model",
            name="last_read_at",
            field=models.DateTimeField(
                null=True,
                help_text="when it was last read, while it cannot be; null: whenever the store was read",
            ),
        ),
        migrations.RunPython(take_over, migrations.RunPython.noop),
        migrations.RemoveField(model_name="model", name="synced_at"),
    ]
