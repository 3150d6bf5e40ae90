"""``mechamapctl``: the operator's command.

What a command needs is imported when it runs: ``--help`` and shell completion must not wait for the settings.
"""

from __future__ import annotations

import os
import sys
import time
from typing import Any, Final

import click

from mechamap_rt import __version__
from mechamap_rt.cli.control import COMMANDS
from mechamap_rt.cli.failure import Failure
from mechamap_rt.cli.kinds import Duration
from mechamap_rt.cli.options import choices, env_file_option, json_option, print_json, reporting, server_options
from mechamap_rt.cli.watching import WATCHING

_COMPLETION_HINTS: Final = {
    "bash": 'in ~/.bashrc: eval "$(mechamapctl completion bash)"',
    "zsh": 'in ~/.zshrc, after compinit: eval "$(mechamapctl completion zsh)"',
    "fish": "mechamapctl completion fish > ~/.config/fish/completions/mechamapctl.fish",
}


class _InOrder(click.Group):
    """Lists its commands in the order in which they were added."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        return list(self.commands)


@click.group(cls=_InOrder, context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(__version__, prog_name="mechamapctl")
@server_options(envvar="MECHAMAPCTL_SOCKET")
@env_file_option
@json_option
def main() -> None:
    """Look after a mechamap_rt server.

    Most commands ask the server that is running on this host, by its control socket. The others go by the settings,
    which come from the environment and a .env file.
    """


for _command in (*WATCHING, *COMMANDS):
    main.add_command(_command)


@main.command("check-config")
@env_file_option
@json_option
@click.option("--explain", is_flag=True, help="Say what each setting means.")
@reporting
def check_config(explain: bool) -> None:
    """Print the effective settings, or all faults.

    Faults go to standard error, with exit code 1. Secrets are never shown.
    """
    from mechamap_rt.cli import check

    chosen = choices()
    code = check.run(os.environ, chosen.settings_file(), sys.stdout, sys.stderr, chosen.as_json, explain)
    # Here, and not when the interpreter ends: there a closed pipe would be told in a traceback.
    sys.stdout.flush()
    sys.exit(code)


@main.command("env-file")
@json_option
@reporting
def env_file() -> None:
    """Print a file of settings to start from.

    Every setting is in it, with its meaning and default; what a production site must set comes first.
    """
    from mechamap_rt.settings.envfile import env_file as text

    if choices().as_json:
        print_json({"text": text()})
    else:
        click.echo(text(), nl=False)


@main.command("token")
@env_file_option
@json_option
@click.option("--user", type=click.IntRange(1, 2**63 - 1), required=True, help="The user's id.")
@click.option("--role", default="member", show_default=True, help="The user's role.")
@click.option("--name", help="The user's name.")
@click.option(
    "--permission",
    "permissions",
    multiple=True,
    default=("receive_notifications",),
    show_default=True,
    help="What the token permits; may be repeated.",
)
@click.option("--expires", type=Duration(), help="How long it is good: 24h, 7d, seconds (default: JWT_EXPIRES_IN).")
@reporting
def token(user: int, role: str, name: str | None, permissions: tuple[str, ...], expires: float | None) -> None:
    """Print a token for a user, signed with JWT_SECRET."""
    from mechamap_rt.auth.jwt import mint

    settings = _settings()
    if "JWT_SECRET" in settings.generated:
        message = "JWT_SECRET is not set: no server would accept a token made without it"
        raise Failure("NO_SECRET", message, field="JWT_SECRET")
    claims: dict[str, Any] = {"userId": user, "role": role, "permissions": list(permissions)}
    if name is not None:
        claims["name"] = name
    good_for = settings.jwt.expires_in if expires is None else expires
    now = time.time()
    made = mint(settings.jwt.secret, settings.jwt.algorithm, claims, now, good_for)
    if choices().as_json:
        print_json({"token": made, "user": user, "expires": int(now + good_for)})
    else:
        click.echo(made)


@main.command("demo-site")
@json_option
@click.option("--mysql", "url", required=True, metavar="URL", help="mysql://user:password@host:port/database, empty.")
@reporting
def demo_site(url: str) -> None:
    """Make an empty MySQL database a small site to try the server with.

    Its tables are the columns that the server uses of the site's. Each of the users gets a token. The password may
    come from DB_PASSWORD instead.
    """
    from mechamap_rt.cli.demosite import load

    made = load(url)
    if choices().as_json:
        print_json(made)
        return
    click.echo("The demo site is there. To run a server with it, besides DB_PASSWORD:\n")
    for name, value in made["settings"].items():
        click.echo(f"  {name}={value}")
    click.echo("\nIts users, and a token of each:\n")
    for user in made["users"]:
        click.echo(f"  {user['id']} {user['name']} ({user['role']})\n    {user['token']}")


def _settings() -> Any:
    """The settings that the server would run with, or an end that names every fault."""
    from mechamap_rt.cli import check
    from mechamap_rt.cli.locate import bad_settings
    from mechamap_rt.settings import SettingsError, load

    try:
        return load(os.environ, choices().settings_file(), first=False).settings
    except SettingsError as error:
        if choices().as_json:
            raise bad_settings(error.faults) from None
        sys.exit(check.render_check(error, sys.stdout, sys.stderr))


@main.command("completion")
@json_option
@click.argument("shell", type=click.Choice(list(_COMPLETION_HINTS)))
@reporting
def completion(shell: str) -> None:
    """Print what makes a shell complete this command."""
    from click.shell_completion import get_completion_class

    kind = get_completion_class(shell)
    assert kind is not None
    script = kind(main, {}, "mechamapctl", "_MECHAMAPCTL_COMPLETE").source().rstrip("\n")
    hint = _COMPLETION_HINTS[shell]
    if choices().as_json:
        print_json({"shell": shell, "script": f"{script}\n", "hint": hint})
    else:
        # Last, where it is seen; and zsh wants its own comment on the first line.
        click.echo(f"{script}\n# {hint}")


if __name__ == "__main__":
    main()
