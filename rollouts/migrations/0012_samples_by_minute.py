from django.db import migrations, models


class Migration(migrations.Migration):
    """The last minutes of all endpoints are read together: without this, over every sample that is kept."""

    dependencies = [
        ("rollouts", "0011_ratings_that_wait_and_that_count_for_nobody"),
    ]

    operations = [
        migrations.AddIndex(
            model_name="minutesample",
            index=models.Index(fields=["minute"], name="sample_by_minute"),
        ),
    ]
