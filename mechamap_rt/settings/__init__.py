"""What an operator can set: read once, checked as a whole, immutable ever after.

:func:`load` makes :class:`Settings` of an environment and a ``.env`` file, or raises
:exc:`SettingsError` with every fault. Each option is declared in one place, a field of one of the
section classes; names, parsers, defaults, documentation and the reference page follow from there.
"""

from mechamap_rt.settings.addresses import Network, TrustProxy
from mechamap_rt.settings.backing import Auth, Database, Jwt, Laravel, Redis
from mechamap_rt.settings.describe import Line, describe, environ_of
from mechamap_rt.settings.faults import BadValue, Fault, SettingsError
from mechamap_rt.settings.listeners import Listener, SystemdListener, TcpListener, UnixListener
from mechamap_rt.settings.loading import Loaded, load
from mechamap_rt.settings.model import CATALOGUE, Entry, Settings, Source
from mechamap_rt.settings.option import Option
from mechamap_rt.settings.running import Admin, Control, Development, Log, Manhole, Monitoring, Node
from mechamap_rt.settings.serving import Cluster, Cors, Http, Limits, RateLimit, Server, Tls, Ws
from mechamap_rt.settings.sources import find_env_file

__all__ = [
    "CATALOGUE",
    "Admin",
    "Auth",
    "BadValue",
    "Cluster",
    "Control",
    "Cors",
    "Database",
    "Development",
    "Entry",
    "Fault",
    "Http",
    "Jwt",
    "Laravel",
    "Limits",
    "Line",
    "Listener",
    "Loaded",
    "Log",
    "Manhole",
    "Monitoring",
    "Network",
    "Node",
    "Option",
    "RateLimit",
    "Redis",
    "Server",
    "Settings",
    "SettingsError",
    "Source",
    "SystemdListener",
    "TcpListener",
    "Tls",
    "TrustProxy",
    "UnixListener",
    "Ws",
    "describe",
    "environ_of",
    "find_env_file",
    "load",
]
