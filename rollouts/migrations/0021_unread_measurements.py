from django.db import migrations, models


class Migration(migrations.Migration):
    """When the source of the measurements could not be read is known apart from when nothing was measured."""

    dependencies = [
        ("rollouts", "0020_unseen_traffic"),
    ]

    operations = [
        migrations.AddField(
            model_name="rollout",
            name="unread_at",
            field=models.DateTimeField(
                help_text="end of the last interval in which the source of the measurements could not be read",
                null=True,
            ),
        ),
    ]
