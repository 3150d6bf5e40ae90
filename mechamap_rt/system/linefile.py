"""A file of lines that several processes append to, and that any of them rotates: no line is lost or torn.

Each line is one write (2) to a descriptor that appends, under a lock on the file (flock (2)). Who has waited for the
lock and then finds that the path leads to another file has waited for one that has been rotated, by a process of ours
or by an operator's logrotate, and opens the new one.
"""

from __future__ import annotations

import errno
import fcntl
import os
import stat
from collections import deque
from contextlib import suppress
from pathlib import Path
from typing import Final

#: Opens, at most, until one is the file that the path leads to.
_TRIES: Final = 100
_FLAGS: Final = os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_NOFOLLOW | os.O_CLOEXEC | os.O_NONBLOCK


class LineFile:
    """The file; every method blocks and is for a thread.

    :param max_size: bytes, above which it is rotated; 0 for never.
    :param max_files: rotated files that are kept (``….1`` is the youngest); 0 for all of them.
    :param mode: what at most others may do with it.
    """

    def __init__(self, path: Path, max_size: int, max_files: int, mode: int = 0o600) -> None:
        self.path: Final = path
        self._mode = mode
        self._max_size = max_size
        self._max_files = max_files
        self._descriptor: int | None = None

    def open(self) -> None:
        """:raises OSError: it cannot be made or appended to, is a link, or is no file at all."""
        if self._descriptor is None:
            self._descriptor = self._opened()

    def close(self) -> None:
        descriptor, self._descriptor = self._descriptor, None
        if descriptor is not None:
            os.close(descriptor)

    def append(self, lines: deque[bytes]) -> None:
        """Write the lines, and take away from ``lines`` what is written.

        :raises OSError: they cannot be written; what is left over has not been, in part neither.
        """
        descriptor = self._lock()
        try:
            while lines:
                size = os.fstat(descriptor).st_size
                if self._max_size and size and size + len(lines[0]) > self._max_size:
                    self._rotate()
                    # the lock on the old file ends with its descriptor
                    self.close()
                    descriptor = self._lock()
                    continue
                self._write(descriptor, lines[0], size)
                lines.popleft()
        finally:
            with suppress(OSError):
                fcntl.flock(descriptor, fcntl.LOCK_UN)

    @staticmethod
    def _write(descriptor: int, line: bytes, size: int) -> None:
        written = os.write(descriptor, line)
        if written < len(line):
            # a full disk takes half a line: rather none
            os.ftruncate(descriptor, size)
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    def _opened(self) -> int:
        descriptor = os.open(self.path, _FLAGS, self._mode)
        try:
            status = os.fstat(descriptor)
            if not stat.S_ISREG(status.st_mode):
                raise OSError(errno.EINVAL, "Not a regular file")
            mode = stat.S_IMODE(status.st_mode)
            if status.st_uid == os.geteuid() and mode & ~self._mode:
                os.fchmod(descriptor, mode & self._mode)
        except BaseException:
            os.close(descriptor)
            raise
        return descriptor

    def _lock(self) -> int:
        """The descriptor of the file that the path leads to, locked."""
        for _ in range(_TRIES):
            if self._descriptor is None:
                self._descriptor = self._opened()
            descriptor = self._descriptor
            fcntl.flock(descriptor, fcntl.LOCK_EX)
            if self._is_current(descriptor):
                return descriptor
            self.close()
        raise OSError(errno.EAGAIN, "The file is always another one")

    def _is_current(self, descriptor: int) -> bool:
        with suppress(FileNotFoundError):
            return os.path.samestat(os.lstat(self.path), os.fstat(descriptor))
        return False

    def _rotate(self) -> None:
        """The locked file becomes ``….1``, what was it ``….2``, and so on; this is the last step of it."""
        last = 1
        while os.path.lexists(self._numbered(last)):
            last += 1
        if self._max_files:
            for number in range(self._max_files, last):
                os.unlink(self._numbered(number))
            last = min(last, self._max_files)
        for number in range(last, 1, -1):
            os.replace(self._numbered(number - 1), self._numbered(number))
        os.replace(self.path, self._numbered(1))

    def _numbered(self, number: int) -> str:
        return f"{self.path}.{number}"
