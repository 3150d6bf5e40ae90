"""The demo: three users of the embedded site, and what the console needs to be them."""

from __future__ import annotations

from typing import Any, Final, NamedTuple

from mechamap_rt import __version__
from mechamap_rt.auth.jwt import mint
from mechamap_rt.settings import Settings


class DemoUser(NamedTuple):
    id: int
    name: str
    role: str


USERS: Final = (
    DemoUser(1, "Nguyễn Văn An", "member"),
    DemoUser(2, "Trần Thị Bình", "member"),
    DemoUser(3, "Lê Quang Chi", "moderator"),
)

CHANNELS: Final = (
    ("public.news", "everyone"),
    ("thread.1", "an approved thread"),
    ("presence-thread.1", "the same thread, by its presence name"),
    ("private-user.1", "An's own channel"),
    ("private-user.2", "Bình's own channel"),
    ("forum.1", "a public forum"),
    ("forum.2", "a private forum: moderators only"),
    ("conversation.1", "An and Bình"),
    ("group.3", "a group of all three"),
    ("moderator.reports", "moderators only"),
)


def token(settings: Settings, user: DemoUser, now: float) -> str:
    """A token for one demo user."""
    claims = {
        "userId": user.id,
        "name": user.name,
        "role": user.role,
        "permissions": ["receive_notifications", "websocket:connect"],
    }
    return mint(settings.jwt.secret, settings.jwt.algorithm, claims, now, settings.jwt.expires_in)


def console_config(settings: Settings, now: float, socketio: bool) -> dict[str, Any]:
    """What the console asks for: users with their tokens, channels to try, the backend's key."""
    return {
        "users": [user._asdict() | {"token": token(settings, user, now)} for user in USERS],
        "channels": [{"name": name, "hint": hint} for name, hint in CHANNELS],
        "apiKey": settings.laravel.api_key,
        "socketio": socketio,
        "transports": ["websocket"],
        "version": __version__,
    }


def banner(settings: Settings, url: str, now: float) -> str:
    """What a person sees when the server has started on embedded defaults."""
    lines = [
        "",
        f"  Console    {url}/console",
        f"  Socket.IO  {url}/socket.io/",
        f"  WebSocket  {url.replace('http', 'ws', 1)}/ws",
        f"  Health     {url}/api/health",
        f"  Dashboard  {url}/dashboard",
        "",
        f"  API key    {settings.laravel.api_key}",
    ]
    if "ADMIN_KEY" in settings.generated:
        # made up for this run: nobody could know it otherwise
        lines.append(f"  Admin key  {settings.admin.key}")
    lines.append("")
    for user in USERS:
        lines += [f"  {user.id} {user.name} ({user.role})", f"    {token(settings, user, now)}"]
    return "\n".join([*lines, ""])
