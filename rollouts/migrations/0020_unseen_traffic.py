from django.db import migrations, models


class Migration(migrations.Migration):
    """Processes of the router count by themselves; what one of them lost is told in seconds of the traffic."""

    dependencies = [
        ("rollouts", "0019_accepted_routes"),
    ]

    operations = [
        migrations.AddField(
            model_name="othercalls", name="unseen_seconds", field=models.FloatField(default=0.0)
        ),
    ]
