"""The file that several processes append to and rotate."""

from __future__ import annotations

import json
import multiprocessing
import os
import resource
import signal
import stat
from collections import Counter, deque
from pathlib import Path

import pytest

from mechamap_rt.system.linefile import LineFile

PROCESSES, LINES, SIZE = 4, 1500, 16 * 1024


def written(path: Path) -> list[bytes]:
    """Every line, of the rotated files too, the oldest first."""
    rotated = sorted(path.parent.glob(path.name + ".*"), key=lambda one: -int(one.suffix[1:]))
    return [line for each in (*rotated, path) for line in each.read_bytes().splitlines(keepends=True)]


def append_many(path: Path, name: int, max_files: int) -> None:
    file = LineFile(path, SIZE, max_files)
    file.open()
    for first in range(0, LINES, 3):
        rows = [{"by": name, "number": number, "fill": "x" * 60} for number in range(first, first + 3)]
        file.append(deque(json.dumps(row).encode() + b"\n" for row in rows))
    file.close()


def test_processes_append_and_rotate_and_lose_nothing(tmp_path: Path) -> None:
    path = tmp_path / "audit.log"
    context = multiprocessing.get_context("spawn")
    writers = [context.Process(target=append_many, args=(path, name, 0)) for name in range(PROCESSES)]
    for writer in writers:
        writer.start()
    for writer in writers:
        writer.join(60)
        assert writer.exitcode == 0
    lines = [json.loads(line) for line in written(path)]
    assert Counter(line["by"] for line in lines) == dict.fromkeys(range(PROCESSES), LINES)
    for name in range(PROCESSES):
        assert [line["number"] for line in lines if line["by"] == name] == list(range(LINES)), "in order, each once"
    files = list(tmp_path.iterdir())
    assert len(files) > 10
    assert max(each.stat().st_size for each in files) <= SIZE
    assert {stat.S_IMODE(each.stat().st_mode) for each in files} == {0o600}


def test_few_are_kept(tmp_path: Path) -> None:
    path = tmp_path / "audit.log"
    # of a time when more were kept
    for number in range(1, 8):
        (tmp_path / f"audit.log.{number}").write_text("old\n")
    append_many(path, 1, 3)
    assert sorted(each.name for each in tmp_path.iterdir()) == ["audit.log", *(f"audit.log.{n}" for n in (1, 2, 3))]
    numbers = [json.loads(line)["number"] for line in written(path)]
    assert numbers == list(range(numbers[0], LINES))


def test_without_a_size_it_is_never_rotated(tmp_path: Path) -> None:
    file = LineFile(tmp_path / "audit.log", 0, 1)
    for _ in range(3):
        file.append(deque([b"x" * 100_000 + b"\n"]))
    assert [each.stat().st_size for each in tmp_path.iterdir()] == [300_003]


def test_one_that_others_have_moved_is_left(tmp_path: Path) -> None:
    path = tmp_path / "audit.log"
    file = LineFile(path, 0, 1)
    file.append(deque([b"one\n"]))
    path.rename(tmp_path / "moved")
    file.append(deque([b"two\n"]))
    path.unlink()
    file.append(deque([b"three\n"]))
    assert (tmp_path / "moved").read_bytes() == b"one\n"
    assert path.read_bytes() == b"three\n"


def test_others_may_not_read_it(tmp_path: Path) -> None:
    path = tmp_path / "audit.log"
    path.write_text("")
    path.chmod(0o644)
    LineFile(path, 0, 1).open()
    assert stat.S_IMODE(path.stat().st_mode) == 0o600


def test_what_is_no_file_is_refused(tmp_path: Path) -> None:
    target = tmp_path / "target"
    target.write_text("")
    (tmp_path / "link").symlink_to(target)
    os.mkfifo(tmp_path / "fifo")
    for name in ("link", "fifo", "", "missing/audit.log"):
        with pytest.raises(OSError, match=r"."):
            LineFile(tmp_path / name, 0, 1).open()
    assert target.read_text() == ""


def _fill(path: Path) -> None:
    signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    resource.setrlimit(resource.RLIMIT_FSIZE, (250, 250))
    lines = deque(b"%d" % number + b"x" * 98 + b"\n" for number in range(5))
    try:
        LineFile(path, 0, 1).append(lines)
    except OSError:
        os._exit(len(lines))


def test_a_full_disk_takes_no_half_line(tmp_path: Path) -> None:
    path = tmp_path / "audit.log"
    process = multiprocessing.get_context("spawn").Process(target=_fill, args=(path,))
    process.start()
    process.join(60)
    assert process.exitcode == 3, "two are written, and three are left over"
    assert [len(line) for line in written(path)] == [100, 100]
