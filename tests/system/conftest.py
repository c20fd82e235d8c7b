"""What every system test needs: tasks enqueued here go to the database that is `default` at the moment."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from collections.abc import Iterator


@pytest.fixture(autouse=True)
def _fresh_store() -> Iterator[None]:
    """Have the task backend of this process look again which vendor it talks to."""
    from jobsup.compat import task_backends

    vars(task_backends["default"]).pop("store", None)
    yield
    vars(task_backends["default"]).pop("store", None)
