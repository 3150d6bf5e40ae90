"""``etc/mechamap.env`` as an operator fills it in."""

from __future__ import annotations

import secrets
from pathlib import Path
from typing import Final

SHIPPED: Final = Path(__file__).parents[2] / "etc" / "mechamap.env"
SECRETS: Final = ("JWT_SECRET", "LARAVEL_API_KEY", "ADMIN_KEY")


def filled(**values: str) -> str:
    """The file with secrets put in, and further values: each in its own line, whether that is commented out or not."""
    lines = SHIPPED.read_text("utf-8").splitlines()
    for name, value in ({one: secrets.token_urlsafe(48) for one in SECRETS} | values).items():
        places = [place for place, line in enumerate(lines) if line.removeprefix("#").startswith(f"{name}=")]
        assert len(places) == 1, f"{name} is in lines {places}"
        lines[places[0]] = f"{name}={value}"
    return "\n".join(lines) + "\n"
