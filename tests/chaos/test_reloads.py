"""A short slice of the fifty reloads: ``python -m tests.chaos reloads`` does them all."""

from __future__ import annotations

from pathlib import Path

from tests.chaos import reloads


def test_reloads_in_a_row_lose_nothing_and_leave_nothing(tmp_path: Path) -> None:
    rows = reloads.run(tmp_path, 3, clients=18, rate=50)
    first, last = rows[0], rows[-1]
    assert last.processes == first.processes == 4
    assert last.master_fds <= first.master_fds + 1
    assert last.worker_fds[-1] <= first.worker_fds[-1] + 6
    assert last.master_rss < first.master_rss + 4 * 2**20
