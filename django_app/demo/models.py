"""The rows of the demo: documents, analyses of them in chunks, and what was found.

The findings of a chunk and the mark that it is finished are one commit; everything that must be exact although workers
are killed rests on that.
"""

from django.db import models
from django.urls import reverse

from demo.examine import ERROR_CHARS_MAX, NAME_CHARS_MAX


class Document(models.Model):
    """One source file; `unreadable` says why there is no source."""

    path = models.CharField(max_length=300, unique=True)
    package = models.CharField(max_length=100, db_index=True)
    source = models.TextField(blank=True)
    unreadable = models.CharField(max_length=300, blank=True)
    digest = models.CharField(max_length=64)

    def __str__(self) -> str:
        """Return the path inside the library."""
        return self.path


class Analysis(models.Model):
    """One run over the documents of some packages; with `serial_of` it is the serial run beside another."""

    packages = models.JSONField(default=list)
    chunk_size = models.PositiveIntegerField(default=25)
    document_count = models.PositiveIntegerField(default=0)
    chunk_count = models.PositiveIntegerField(default=0)
    serial_of = models.OneToOneField("self", models.CASCADE, null=True, blank=True, related_name="serial_run")
    created_at = models.DateTimeField(auto_now_add=True)
    started_at = models.DateTimeField(null=True, blank=True)
    finished_at = models.DateTimeField(null=True, blank=True)

    class Meta:
        verbose_name_plural = "analyses"

    def __str__(self) -> str:
        """Return a name for pages and logs."""
        return f"analysis {self.pk}"

    def get_absolute_url(self) -> str:
        """Return the page of this analysis."""
        return reverse("analysis", args=[self.pk])

    @property
    def seconds(self) -> float | None:
        """Return how long the work took, from its first chunk to its last, or None while it goes on."""
        if self.finished_at is None or self.started_at is None:
            return None
        return (self.finished_at - self.started_at).total_seconds()


class Chunk(models.Model):
    """Some documents of an analysis, worked on by one job; the worker is the one that began last."""

    analysis = models.ForeignKey(Analysis, models.CASCADE, related_name="chunks")
    number = models.PositiveIntegerField()
    label = models.CharField(max_length=200)
    document_ids = models.JSONField(default=list)
    job_id = models.BigIntegerField(null=True, blank=True, db_index=True)
    attempt = models.PositiveIntegerField(default=0)
    worker = models.CharField(max_length=200, blank=True)
    pid = models.PositiveIntegerField(null=True, blank=True)
    started_at = models.DateTimeField(null=True, blank=True)
    finished_at = models.DateTimeField(null=True, blank=True)

    class Meta:
        constraints = [models.UniqueConstraint(fields=["analysis", "number"], name="demo_chunk_number")]
        ordering = ["number"]

    def __str__(self) -> str:
        """Return a name for pages and logs."""
        return f"chunk {self.number}"


class Finding(models.Model):
    """The facts that one analysis found in one document."""

    analysis = models.ForeignKey(Analysis, models.CASCADE, related_name="findings")
    document = models.ForeignKey(Document, models.CASCADE, related_name="findings")
    lines = models.PositiveIntegerField(default=0)
    functions = models.PositiveIntegerField(default=0)
    classes = models.PositiveIntegerField(default=0)
    longest_name = models.CharField(max_length=NAME_CHARS_MAX, blank=True)
    longest_lines = models.PositiveIntegerField(default=0)
    knottiest_name = models.CharField(max_length=NAME_CHARS_MAX, blank=True)
    knottiest_paths = models.PositiveIntegerField(default=0)
    paths = models.PositiveIntegerField(default=0)
    identifiers = models.PositiveIntegerField(default=0)
    imports = models.JSONField(default=list)
    error = models.CharField(max_length=ERROR_CHARS_MAX, blank=True)

    class Meta:
        constraints = [models.UniqueConstraint(fields=["analysis", "document"], name="demo_finding_once")]

    def __str__(self) -> str:
        """Return which document this is about."""
        return f"finding in document {self.document_id}"


class Kill(models.Model):
    """A SIGKILL that the demo sent to a worker in the middle of a chunk, written down when it was sent."""

    chunk = models.ForeignKey(Chunk, models.CASCADE, related_name="kills")
    attempt = models.PositiveIntegerField()
    worker = models.CharField(max_length=200)
    pid = models.PositiveIntegerField()
    sent_by = models.CharField(max_length=20)
    sent_at = models.DateTimeField(auto_now_add=True)

    def __str__(self) -> str:
        """Return what was done, as a sentence without its full stop."""
        return (
            f"the {self.sent_by} sent SIGKILL to pid {self.pid} in the middle of {self.chunk}, attempt {self.attempt}"
        )
