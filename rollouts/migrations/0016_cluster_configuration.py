from django.db import migrations, models


class Migration(migrations.Migration):
    dependencies = [("rollouts", "0015_no_next_probe")]

    operations = [
        migrations.AlterField(model_name="cluster", name="kind", field=models.CharField(max_length=20)),
        migrations.AddField(
            model_name="cluster", name="configuration", field=models.JSONField(blank=True, default=dict)
        ),
        migrations.AddField(
            model_name="cluster",
            name="secret",
            field=models.CharField(blank=True, default="", max_length=100),
        ),
    ]
