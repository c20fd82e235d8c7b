"""The tables of the demo."""

import django.db.models.deletion
from django.db import migrations, models


class Migration(migrations.Migration):
    initial = True

    dependencies = []

    operations = [
        migrations.CreateModel(
            name="Document",
            fields=[
                ("id", models.BigAutoField(auto_created=True, primary_key=True, serialize=False, verbose_name="ID")),
                ("path", models.CharField(max_length=300, unique=True)),
                ("package", models.CharField(db_index=True, max_length=100)),
                ("source", models.TextField(blank=True)),
                ("unreadable", models.CharField(blank=True, max_length=300)),
                ("digest", models.CharField(max_length=64)),
            ],
        ),
        migrations.CreateModel(
            name="Analysis",
            fields=[
                ("id", models.BigAutoField(auto_created=True, primary_key=True, serialize=False, verbose_name="ID")),
                ("packages", models.JSONField(default=list)),
                ("chunk_size", models.PositiveIntegerField(default=25)),
                ("document_count", models.PositiveIntegerField(default=0)),
                ("chunk_count", models.PositiveIntegerField(default=0)),
                ("created_at", models.DateTimeField(auto_now_add=True)),
                ("started_at", models.DateTimeField(blank=True, null=True)),
                ("finished_at", models.DateTimeField(blank=True, null=True)),
                (
                    "serial_of",
                    models.OneToOneField(
                        blank=True,
                        null=True,
                        on_delete=django.db.models.deletion.CASCADE,
                        related_name="serial_run",
                        to="demo.analysis",
                    ),
                ),
            ],
            options={
                "verbose_name_plural": "analyses",
            },
        ),
        migrations.CreateModel(
            name="Chunk",
            fields=[
                ("id", models.BigAutoField(auto_created=True, primary_key=True, serialize=False, verbose_name="ID")),
                ("number", models.PositiveIntegerField()),
                ("label", models.CharField(max_length=200)),
                ("document_ids", models.JSONField(default=list)),
                ("job_id", models.BigIntegerField(blank=True, db_index=True, null=True)),
                ("attempt", models.PositiveIntegerField(default=0)),
                ("worker", models.CharField(blank=True, max_length=200)),
                ("pid", models.PositiveIntegerField(blank=True, null=True)),
                ("started_at", models.DateTimeField(blank=True, null=True)),
                ("finished_at", models.DateTimeField(blank=True, null=True)),
                (
                    "analysis",
                    models.ForeignKey(
                        on_delete=django.db.models.deletion.CASCADE, related_name="chunks", to="demo.analysis"
                    ),
                ),
            ],
            options={
                "ordering": ["number"],
            },
        ),
        migrations.CreateModel(
            name="Finding",
            fields=[
                ("id", models.BigAutoField(auto_created=True, primary_key=True, serialize=False, verbose_name="ID")),
                ("lines", models.PositiveIntegerField(default=0)),
                ("functions", models.PositiveIntegerField(default=0)),
                ("classes", models.PositiveIntegerField(default=0)),
                ("longest_name", models.CharField(blank=True, max_length=200)),
                ("longest_lines", models.PositiveIntegerField(default=0)),
                ("knottiest_name", models.CharField(blank=True, max_length=200)),
                ("knottiest_paths", models.PositiveIntegerField(default=0)),
                ("paths", models.PositiveIntegerField(default=0)),
                ("identifiers", models.PositiveIntegerField(default=0)),
                ("imports", models.JSONField(default=list)),
                ("error", models.CharField(blank=True, max_length=300)),
                (
                    "analysis",
                    models.ForeignKey(
                        on_delete=django.db.models.deletion.CASCADE, related_name="findings", to="demo.analysis"
                    ),
                ),
                (
                    "document",
                    models.ForeignKey(
                        on_delete=django.db.models.deletion.CASCADE, related_name="findings", to="demo.document"
                    ),
                ),
            ],
        ),
        migrations.CreateModel(
            name="Kill",
            fields=[
                ("id", models.BigAutoField(auto_created=True, primary_key=True, serialize=False, verbose_name="ID")),
                ("attempt", models.PositiveIntegerField()),
                ("worker", models.CharField(max_length=200)),
                ("pid", models.PositiveIntegerField()),
                ("sent_by", models.CharField(max_length=20)),
                ("sent_at", models.DateTimeField(auto_now_add=True)),
                (
                    "chunk",
                    models.ForeignKey(
                        on_delete=django.db.models.deletion.CASCADE, related_name="kills", to="demo.chunk"
                    ),
                ),
            ],
        ),
        migrations.AddConstraint(
            model_name="chunk",
            constraint=models.UniqueConstraint(fields=("analysis", "number"), name="demo_chunk_number"),
        ),
        migrations.AddConstraint(
            model_name="finding",
            constraint=models.UniqueConstraint(fields=("analysis", "document"), name="demo_finding_once"),
        ),
    ]
