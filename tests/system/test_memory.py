"""Memory that only the start needed is given back."""

from __future__ import annotations

import subprocess
import sys

from mechamap_rt.system.memory import code_ranges

MAPS = """\
55d0c8a00000-55d0c8a01000 r--p 00000000 08:01 1 /usr/bin/python3.11
55d0c8a01000-55d0c8a05000 r-xp 00001000 08:01 1 /usr/bin/python3.11
55d0c8a05000-55d0c8a06000 rw-p 00005000 08:01 1 /usr/bin/python3.11
7f0000000000-7f0000100000 rwxp 00000000 00:00 0
7f0000200000-7f0000300000 r-xp 00000000 00:00 0
7f0000400000-7f0000500000 r-xs 00000000 08:01 2 /somewhere/shared
7ffc00000000-7ffc00002000 r-xp 00000000 00:00 0 [vdso]
7f0000600000-7f0000700000 r-xp 00000000 08:01 2 /usr/lib/with a space.so
"""


def test_only_code_from_files_is_named() -> None:
    assert list(code_ranges(MAPS.splitlines())) == [
        (0x55D0C8A01000, 0x55D0C8A05000),
        (0x7F0000600000, 0x7F0000700000),
    ]


def test_a_process_that_let_go_is_smaller_and_works_on() -> None:
    script = """
import twisted.internet.ssl, mechamap_rt.app, hashlib, json
from mechamap_rt.system.meter import resident
from mechamap_rt.system.memory import release_code
before = resident()
assert release_code() > 0
after = resident()
assert json.loads('{"a": [1.5]}') == {"a": [1.5]}
assert hashlib.sha256(b"x").hexdigest().startswith("2d711642b726b044")
print(before - after)
"""
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, timeout=60, check=True)
    assert int(done.stdout) > 2_000_000
