"""Where the control socket is, for the server and for the client."""

from __future__ import annotations

import os
import stat
from pathlib import Path

import pytest

from mechamap_rt.settings import Settings, control_socket, load
from mechamap_rt.settings.control_socket import UnusableSocketError, candidates, default_directories, server_path

UID = os.getuid()


def settings(**environ: str) -> Settings:
    return load(environ, None).settings


def touch(path: Path) -> Path:
    path.parent.mkdir(mode=0o700, exist_ok=True)
    path.touch()
    return path


@pytest.fixture
def private(tmp_path: Path) -> Path:
    return tmp_path / f"mechamap-{UID}"


def test_the_directories(tmp_path: Path, private: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert default_directories({}, UID) == [private]
    monkeypatch.setattr(control_socket, "_SYSTEM", tmp_path)
    environ = {"RUNTIME_DIRECTORY": "/run/a:/run/b", "XDG_RUNTIME_DIR": "/usr"}
    assert default_directories(environ, 7) == [Path("/run/a"), tmp_path, Path("/usr"), tmp_path / "mechamap-7"]
    assert default_directories({"XDG_RUNTIME_DIR": "/nowhere"}, UID) == [tmp_path, private]


class TestServerPath:
    def test_the_setting_wins(self) -> None:
        made = settings(CONTROL_SOCKET="/somewhere/s")
        assert server_path(made, {"RUNTIME_DIRECTORY": "/usr"}, UID, 3000) == Path("/somewhere/s")

    def test_the_first_writable_directory(self, tmp_path: Path, private: Path) -> None:
        assert server_path(settings(), {"RUNTIME_DIRECTORY": str(tmp_path)}, UID, 41) == tmp_path / "mechamap-41.sock"
        assert not private.exists()
        environ = {"RUNTIME_DIRECTORY": "/nowhere", "XDG_RUNTIME_DIR": "/proc/self"}
        assert server_path(settings(), environ, UID, 41) == private / "mechamap-41.sock"

    def test_the_temporary_directory_is_private(self, private: Path) -> None:
        server_path(settings(), {}, UID, 1)
        assert stat.S_IMODE(private.stat().st_mode) == 0o700
        server_path(settings(), {}, UID, 2)

    @pytest.mark.parametrize("mode", [0o777, 0o710, 0o701])
    def test_a_directory_that_others_get_into(self, private: Path, mode: int) -> None:
        private.mkdir()
        private.chmod(mode)
        with pytest.raises(UnusableSocketError, match="must be a directory"):
            server_path(settings(), {}, UID, 1)

    def test_a_link(self, tmp_path: Path, private: Path) -> None:
        (tmp_path / "real").mkdir(mode=0o700)
        private.symlink_to(tmp_path / "real")
        with pytest.raises(UnusableSocketError, match="no link"):
            server_path(settings(), {}, UID, 1)

    def test_a_directory_of_somebody_else(self, tmp_path: Path) -> None:
        (tmp_path / "mechamap-4242").mkdir(mode=0o700)
        with pytest.raises(UnusableSocketError, match="of user 4242"):
            server_path(settings(), {}, 4242, 1)

    def test_too_long(self, tmp_path: Path) -> None:
        longest = "/" + "é" * 53
        assert server_path(settings(CONTROL_SOCKET=longest), {}, UID, 1) == Path(longest)
        for made in (settings(CONTROL_SOCKET=longest + "x"), settings(CONTROL_SOCKET="/" + "é" * 54)):
            with pytest.raises(UnusableSocketError, match="at most 107 bytes"):
                server_path(made, {}, UID, 1)


class TestCandidates:
    def test_the_setting_wins(self, private: Path) -> None:
        touch(private / "mechamap-3000.sock")
        assert candidates(settings(CONTROL_SOCKET="/nowhere"), {}, UID) == [Path("/nowhere")]

    def test_the_port_in_every_directory(self, tmp_path: Path, private: Path) -> None:
        here, there = touch(tmp_path / "mechamap-3000.sock"), touch(private / "mechamap-3000.sock")
        touch(private / "mechamap-4000.sock")
        environ = {"XDG_RUNTIME_DIR": str(tmp_path)}
        assert candidates(settings(), environ, UID) == [here, there]
        assert candidates(settings(PORT="4000"), environ, UID) == [private / "mechamap-4000.sock"]

    def test_any_port_when_none_was_set(self, private: Path) -> None:
        other = touch(private / "mechamap-4000.sock")
        touch(private / "another-1.sock")
        assert candidates(settings(), {}, UID) == [other]
        assert candidates(settings(PORT="0"), {}, UID) == [other]
        assert candidates(settings(LISTEN="tcp:127.0.0.1:1"), {}, UID) == [other]

    def test_another_server_than_the_one_meant_is_none(self, private: Path) -> None:
        touch(private / "mechamap-4000.sock")
        assert candidates(settings(PORT="5000"), {}, UID) == []

    def test_a_trap_in_the_temporary_directory(self, private: Path) -> None:
        touch(private / "mechamap-3000.sock")
        private.chmod(0o755)
        assert candidates(settings(), {}, UID) == []

    def test_what_the_server_makes_is_found(self) -> None:
        touch(server_path(settings(), {}, UID, 3000))
        assert candidates(settings(), {}, UID) == [server_path(settings(), {}, UID, 3000)]
