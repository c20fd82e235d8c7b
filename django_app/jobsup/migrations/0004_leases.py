from django.db import migrations, models


class Migration(migrations.Migration):
    dependencies = [
        ("jobsup", "0003_task_api"),
    ]

    operations = [
        migrations.AddField(
            model_name="supervisor",
            name="protocol",
            field=models.SmallIntegerField(db_default=1),
        ),
    ]
