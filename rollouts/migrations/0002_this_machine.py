from django.db import migrations


def add_this_machine(apps, schema_editor):
    """Every installation has the machine it runs on."""
    apps.get_model("rollouts", "Cluster").objects.get_or_create(name="local", defaults={"kind": "local"})


class Migration(migrations.Migration):
    dependencies = [("rollouts", "0001_initial")]

    operations = [migrations.RunPython(add_this_machine, migrations.RunPython.noop)]
