"""A name server that says nothing, for the server that a test starts and for nobody else.

Where the kernel lets us (root, or a container of one's own), the server gets an ``/etc/resolv.conf`` that names a UDP
socket which nobody reads. Elsewhere its ``getaddrinfo`` is replaced by one that takes as long as the resolver's.
"""

from __future__ import annotations

import contextlib
import socket
import subprocess
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Final

ADDRESS: Final = "127.0.0.153"
#: A name of no host of this machine; RFC 2606 keeps it free.
NAME: Final = "database.mechamap.test"

_BIND: Final = 'mount --bind "$0" /etc/resolv.conf && exec "$@"'
_STAND_IN: Final = """
import ipaddress, socket, sys, time
real = socket.getaddrinfo
def late(host, *more, **options):
    try:
        ipaddress.ip_address(host)
    except ValueError:
        if host not in (None, "", "localhost", socket.gethostname()):
            time.sleep(10)
            raise socket.gaierror(socket.EAI_AGAIN, "Temporary failure in name resolution")
    return real(host, *more, **options)
socket.getaddrinfo = late
sys.argv[0] = "twistd"
from twisted.scripts.twistd import run
run()
"""


@contextlib.contextmanager
def silent(folder: Path) -> Iterator[Sequence[str]]:
    """The command that starts ``twistd`` where no name server answers."""
    twistd = str(Path(sys.executable).with_name("twistd"))
    conf = folder / "resolv.conf"
    conf.write_text(f"nameserver {ADDRESS}\n")
    command = ["unshare", "--map-root-user", "--mount", "sh", "-c", _BIND, str(conf)]
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as nobody:
        try:
            nobody.bind((ADDRESS, 53))
            subprocess.run([*command, "true"], check=True, capture_output=True)
        except (OSError, subprocess.CalledProcessError):
            yield [sys.executable, "-c", _STAND_IN]
        else:
            yield [*command, twistd]
