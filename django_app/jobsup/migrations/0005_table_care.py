from django.db import migrations

from jobsup.sql.postgresql import care


class Migration(migrations.Migration):
    dependencies = [
        ("jobsup", "0004_leases"),
    ]

    # PostgreSQL only, and nothing that models know of.
    operations = [
        care.stored("job", care.BUSY),
        care.stored("supervisor", care.SMALL),
        care.stored("failedattempt", care.CALM),
        care.OnPostgreSQL("job", care.ASKED_INDEX, f"DROP INDEX {care.ASKED}"),
    ]
