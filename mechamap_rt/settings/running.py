"""Sections about running the server: operator's key and socket, logs, monitoring, development, Node's leftovers."""

from __future__ import annotations

from dataclasses import dataclass

from mechamap_rt.settings import addresses, kinds
from mechamap_rt.settings.kinds import GIB, KIB
from mechamap_rt.settings.option import option

_LEVEL = kinds.choice(
    "debug",
    "info",
    "warn",
    "error",
    "critical",
    # The names of winston and npm, and what the operator means by them.
    synonyms={
        "warning": "warn",
        "fatal": "critical",
        "http": "debug",
        "verbose": "debug",
        "trace": "debug",
        "silly": "debug",
    },
)


@dataclass(frozen=True, slots=True)
class Admin:
    """The operator's key."""

    key: str = option(
        "ADMIN_KEY",
        kinds.secret,
        "",
        "The key for administration over HTTP; in production at least 16 characters.",
        secret=True,
        generate=True,
    )
    previous_keys: tuple[str, ...] = option(
        "ADMIN_KEY_PREVIOUS",
        kinds.secret_list,
        (),
        "Keys that are still accepted beside ADMIN_KEY while it is replaced: comma list, or one on a line.",
        secret=True,
    )


@dataclass(frozen=True, slots=True)
class Control:
    """The operator's way in.

    Where it is when it is unset: :mod:`mechamap_rt.settings.control_socket`.
    """

    socket: str = option(
        "CONTROL_SOCKET",
        kinds.text,
        "",
        "The unix socket by which mechamapctl reaches the server; unset: mechamap-<PORT>.sock in RUNTIME_DIRECTORY, "
        "/run/mechamap or a private temporary directory.",
    )


@dataclass(frozen=True, slots=True)
class Log:
    """What is logged, and where to."""

    level: str = option("LOG_LEVEL", _LEVEL, "info", "The least important entries that are logged.")
    format: str = option(
        "LOG_FORMAT", kinds.choice("text", "json"), "text", "What a line is: text, or json for one JSON object."
    )
    file: str = option("LOG_FILE", kinds.text, "", "The log's file; unset: standard output.")
    max_size: int = option(
        "LOG_MAX_SIZE",
        kinds.size(KIB, 1024 * GIB, zero=True),
        10 * 1024 * KIB,
        "The size at which the log's file is rotated; 0 for never.",
    )
    max_files: int = option(
        "LOG_MAX_FILES", kinds.integer(0, 10_000), 5, "How many rotated files are kept; 0 for all of them."
    )


@dataclass(frozen=True, slots=True)
class Audit:
    """Who has administered the server.

    Where it is written when the file is unset: :mod:`mechamap_rt.system.audit`.
    """

    file: str = option(
        "AUDIT_LOG_FILE",
        kinds.text,
        "",
        "The file of administrative acts, or off for none; unset: audit.log in LOGS_DIRECTORY, else in the working "
        "directory.",
    )
    max_size: int = option(
        "AUDIT_LOG_MAX_SIZE",
        kinds.size(KIB, 1024 * GIB, zero=True),
        10 * 1024 * KIB,
        "The size at which the file of administrative acts is rotated; 0 for never.",
    )
    max_files: int = option(
        "AUDIT_LOG_MAX_FILES", kinds.integer(0, 10_000), 10, "How many rotated ones are kept; 0 for all of them."
    )

    @property
    def off(self) -> bool:
        """Whether acts are not written down."""
        return self.file.lower() == "off"


@dataclass(frozen=True, slots=True)
class Monitoring:
    """Metrics and health."""

    metrics_enabled: bool = option("METRICS_ENABLED", kinds.boolean, True, "Count, and serve the figures.")
    prometheus_metrics: bool = option(
        "PROMETHEUS_METRICS", kinds.boolean, True, "Serve the figures at /metrics in Prometheus' format."
    )
    trace_publications: int = option(
        "TRACE_PUBLICATIONS",
        kinds.integer(0, 10_000_000),
        100_000,
        "Of how many publications each process remembers what became of them; 0 for none.",
    )
    trace_hours: int = option("TRACE_HOURS", kinds.integer(1, 24 * 31), 24, "For how many hours they are remembered.")
    health_check_interval: float = option(
        "HEALTH_CHECK_INTERVAL",
        kinds.milliseconds(0),
        30.0,
        "Milliseconds between checks of the workers, database and Redis; 0 for none.",
    )
    health_check_timeout: float = option(
        "HEALTH_CHECK_TIMEOUT", kinds.milliseconds(), 5.0, "Milliseconds after which a check has failed."
    )


@dataclass(frozen=True, slots=True)
class Manhole:
    """The interactive shell inside the running process, over SSH."""

    enabled: bool = option(
        "MANHOLE_ENABLED", kinds.boolean, False, "Open a shell into the process, over SSH on loopback only."
    )
    port: int = option(
        "MANHOLE_PORT", addresses.port(any_free=True), 2222, "The shell's TCP port; 0 takes any free port."
    )
    authorized_keys: str = option(
        "MANHOLE_AUTHORIZED_KEYS", kinds.text, "", "The file with the SSH keys that open it; there is no default key."
    )
    host_key: str = option(
        "MANHOLE_HOST_KEY",
        kinds.text,
        "",
        "The file of the shell's own SSH key, made at its first use; unset: manhole_host_key in STATE_DIRECTORY, else "
        "in the control socket's directory.",
    )


@dataclass(frozen=True, slots=True)
class Development:
    """Switches that production refuses."""

    disable_auth: bool = option(
        "DISABLE_AUTH", kinds.boolean, False, "Let everyone in as the mock user; refused in production."
    )
    mock_user_id: int | None = option(
        "MOCK_USER_ID",
        kinds.optional(kinds.integer(1, 2**53)),
        None,
        "The id of the mock user; refused in production.",
    )
    mock_user_role: str = option(
        "MOCK_USER_ROLE",
        kinds.matching(r"[a-z][a-z_]{0,63}", "must be a role, such as member or admin"),
        "",
        "The role of the mock user; refused in production.",
    )
    mock_laravel_api: bool = option(
        "MOCK_LARAVEL_API", kinds.boolean, False, "Answer in the site's place; refused in production."
    )


def _leftover(name: str, doc: str) -> str:
    return option(name, kinds.anything, "", doc, effect="accepted")


@dataclass(frozen=True, slots=True)
class Node:
    """Settings of Node.js and PM2 that operators still have; accepted, and without effect."""

    options: str = _leftover("NODE_OPTIONS", "Node.js: options of the interpreter; no effect here.")
    uv_threadpool_size: str = _leftover("UV_THREADPOOL_SIZE", "Node.js: threads of libuv; no effect here.")
    path: str = _leftover("NODE_PATH", "Node.js: where modules are looked for; no effect here.")
    extra_ca_certs: str = _leftover("NODE_EXTRA_CA_CERTS", "Node.js: further authorities; no effect here.")
    reject_unauthorized: str = _leftover(
        "NODE_TLS_REJECT_UNAUTHORIZED", "Node.js: whether certificates are checked; no effect here."
    )
    no_warnings: str = _leftover("NODE_NO_WARNINGS", "Node.js: silence warnings; no effect here.")
    app_instance: str = _leftover("NODE_APP_INSTANCE", "PM2: the number of the process; no effect here.")
    pm2_home: str = _leftover("PM2_HOME", "PM2: its directory; no effect here.")
    max_memory_restart: str = _leftover(
        "PM2_MAX_MEMORY_RESTART", "PM2: when a process is replaced; no effect here, see MEMORY_LIMIT."
    )
