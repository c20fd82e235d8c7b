"""The two tasks of the demo; their arguments are primary keys, so no row and no connection leaves its process."""

from __future__ import annotations

import os

from demo import analyses
from demo.models import Analysis, Chunk
from jobsup import task
from jobsup.compat import TaskContext


@task(max_attempts=3, takes_context=True)
def analyse(context: TaskContext[..., int], analysis_id: int, document_ids: list[int]) -> int:
    """Examine one chunk of documents and return how many there were."""
    result = context.task_result
    chunk = Chunk.objects.get(analysis_id=analysis_id, job_id=int(result.id))
    return analyses.work(chunk, document_ids, attempt=context.attempt, worker=result.worker_ids[-1], pid=os.getpid())


@task(max_attempts=3)
def analyse_serially(serial_id: int) -> None:
    """Do all chunks of a serial run, one after the other, in this one worker."""
    analyses.run_serially(Analysis.objects.get(pk=serial_id))
