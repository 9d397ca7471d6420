from django.db import migrations, models


class Migration(migrations.Migration):
    """The last minutes of all endpoints are read together: without this, over every sample that is kept."""

    dependencies = [
        ("rollouts", "0010_clock_jumps_and_restored_copies"),
    ]

    operations = [
        migrations.AddIndex(
            model_name="minutesample",
            index=models.Index(fields=["minute"], name="sample_by_minute"),
        ),
    ]
