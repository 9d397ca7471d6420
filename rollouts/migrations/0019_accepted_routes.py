from django.db import migrations, models


class Migration(migrations.Migration):
    """A router may accept a route before it is in force."""

    dependencies = [
        ("rollouts", "0018_backends_are_references"),
    ]

    operations = [
        migrations.AddField(
            model_name="endpoint",
            name="accepted_at",
            field=models.DateTimeField(
                help_text="since when the router has a route that it accepted and has not put in force; null: none",
                null=True,
            ),
        ),
    ]
