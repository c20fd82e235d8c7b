"""The fixture of the process tests."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING

import pytest

from tests.process.play import Pool

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path


@pytest.fixture
def pool(tmp_path: Path) -> Iterator[Callable[..., Pool]]:
    """Start list pools, and end them when the test does; their last picture is shown if it fails."""
    pools: list[Pool] = []

    def start(*args: object, **kwargs: object) -> Pool:
        pools.append(Pool(tmp_path / f"pool-{len(pools)}", *args, **kwargs))  # type: ignore[arg-type]
        return pools[-1]

    yield start
    for each in pools:
        sys.stdout.write(each.picture())
        each.close()
