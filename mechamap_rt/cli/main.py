"""``mechamapctl``: the operator's command."""

from __future__ import annotations

import os
import sys
import time
from pathlib import Path
from typing import Any

import click

from mechamap_rt import __version__
from mechamap_rt.cli import check
from mechamap_rt.settings import BadValue, Settings, SettingsError, find_env_file, kinds, load

_env_file = click.option(
    "--env-file",
    type=click.Path(path_type=Path),
    help="File of settings (default: .env in the current directory, if there is one).",
)


@click.group(context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(__version__, prog_name="mechamapctl")
def main() -> None:
    """Look after a mechamap_rt server. Settings come from the environment and a .env file."""


@main.command("check-config")
@_env_file
@click.option("--json", "as_json", is_flag=True, help="Print one JSON object.")
def check_config(env_file: Path | None, as_json: bool) -> None:
    """Print the effective settings, or every fault in them (exit code 1). Secrets are never shown."""
    sys.exit(check.run(os.environ, env_file or find_env_file(), sys.stdout, sys.stderr, as_json))


class _Duration(click.ParamType[float]):
    name = "duration"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> float:
        if isinstance(value, float):
            return value
        try:
            return kinds.duration.parse(str(value))
        except BadValue as bad:
            self.fail(bad.reason, param, ctx)


@main.command("token")
@_env_file
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
@click.option("--expires", type=_Duration(), help="How long it is good: 24h, 7d, seconds (default: JWT_EXPIRES_IN).")
def token(
    env_file: Path | None,
    user: int,
    role: str,
    name: str | None,
    permissions: tuple[str, ...],
    expires: float | None,
) -> None:
    """Print a token for a user, signed with JWT_SECRET."""
    from mechamap_rt.auth.jwt import mint

    settings = _settings(env_file)
    if "JWT_SECRET" in settings.generated:
        raise click.ClickException("JWT_SECRET is not set: no server would accept a token made without it")
    claims: dict[str, Any] = {"userId": user, "role": role, "permissions": list(permissions)}
    if name is not None:
        claims["name"] = name
    good_for = settings.jwt.expires_in if expires is None else expires
    click.echo(mint(settings.jwt.secret, settings.jwt.algorithm, claims, time.time(), good_for))


def _settings(env_file: Path | None) -> Settings:
    """The settings that the server would run with, or an exit that names every fault."""
    try:
        return load(os.environ, env_file or find_env_file()).settings
    except SettingsError as error:
        sys.exit(check.render_check(error, sys.stdout, sys.stderr))


if __name__ == "__main__":
    main()
