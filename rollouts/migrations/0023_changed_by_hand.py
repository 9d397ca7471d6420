from django.db import migrations, models


class Migration(migrations.Migration):
    """Something else runs of a variant than what was asked for: its rollout holds for that reason."""

    dependencies = [
        ("rollouts", "0022_drift_and_belongings"),
    ]

    operations = [
        migrations.AddField(
            model_name="workload",
            name="altered",
            field=models.TextField(blank=True, default=""),
        ),
        migrations.AlterField(
            model_name="rollout",
            name="pause_reason",
            field=models.CharField(
                blank=True,
                choices=[
                    ("", ""),
                    ("person", "person"),
                    ("inconclusive", "inconclusive"),
                    ("no-data", "no-data"),
                    ("global-stop", "global-stop"),
                    ("drift", "drift"),
                    ("changed", "changed"),
                ],
                default="",
                max_length=14,
            ),
        ),
    ]
