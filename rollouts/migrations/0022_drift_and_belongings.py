from django.db import migrations, models


class Migration(migrations.Migration):
    """What somebody changed of a workload in its cluster, and what lies in a cluster that no endpoint uses."""

    dependencies = [
        ("rollouts", "0021_unread_measurements"),
    ]

    operations = [
        migrations.AddField(
            model_name="workload",
            name="drift",
            field=models.TextField(blank=True, default=""),
        ),
        migrations.AddField(
            model_name="cluster",
            name="belongings",
            field=models.JSONField(
                blank=True,
                default=dict,
                help_text="what lay there when last looked (Belongings as JSON); empty: never",
            ),
        ),
    ]
