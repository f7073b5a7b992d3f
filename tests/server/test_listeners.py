"""Listening sockets: bound, or refused in one clear line."""

from __future__ import annotations

import os
import socket
import stat
from contextlib import ExitStack
from pathlib import Path

import pytest

from sidecar.errors import ListenerError
from sidecar.server.listeners import listening


@pytest.mark.parametrize("address", ["127.0.0.1:0", "[::1]:0", "localhost:0"])
def test_a_tcp_address_is_bound(address: str) -> None:
    with listening(address) as listener:
        listener.listen()
        assert listener.getsockname()[1] > 0


def test_a_unix_socket_is_for_its_group_and_goes_away_with_the_process(tmp_path: Path) -> None:
    path = tmp_path / "sidecar.sock"
    with listening(f"unix:{path}") as listener:
        listener.listen()
        assert stat.S_IMODE(path.stat().st_mode) == 0o660
    assert not path.exists()


def test_a_socket_that_nobody_listens_on_is_replaced(tmp_path: Path) -> None:
    path = tmp_path / "sidecar.sock"
    with socket.socket(socket.AF_UNIX) as crashed:
        crashed.bind(str(path))
    with listening(f"unix:{path}") as listener:
        listener.listen()
        with socket.socket(socket.AF_UNIX) as client:
            client.connect(str(path))


def test_the_socket_goes_away_whatever_ends_the_process(tmp_path: Path) -> None:
    path = tmp_path / "sidecar.sock"
    with pytest.raises(ZeroDivisionError), listening(f"unix:{path}"):
        raise ZeroDivisionError
    assert not path.exists()


def test_who_drains_leaves_the_socket_of_who_took_over(tmp_path: Path) -> None:
    path = tmp_path / "sidecar.sock"
    with ExitStack() as draining:
        draining.enter_context(listening(f"unix:{path}")).close()
        with listening(f"unix:{path}"):
            # As it is where the drain took longer than the file system's clock takes for one step.
            os.utime(path, (path.stat().st_atime, path.stat().st_mtime + 1))
            draining.close()
            with socket.socket(socket.AF_UNIX) as client:
                client.connect(str(path))


def test_a_socket_whose_mode_was_changed_goes_away_too(tmp_path: Path) -> None:
    path = tmp_path / "sidecar.sock"
    with listening(f"unix:{path}"):
        path.chmod(0o600)
    assert not path.exists()


def test_a_socket_that_somebody_listens_on_is_left_alone(tmp_path: Path) -> None:
    path = tmp_path / "sidecar.sock"
    with listening(f"unix:{path}") as first:
        first.listen()
        with pytest.raises(ListenerError, match="another process listens there"), listening(f"unix:{path}"):
            pass
        with socket.socket(socket.AF_UNIX) as client:
            client.connect(str(path))


def test_a_socket_whose_owner_is_stuck_is_left_alone(tmp_path: Path) -> None:
    path = tmp_path / "sidecar.sock"
    with socket.socket(socket.AF_UNIX) as stuck, ExitStack() as waiting:
        stuck.bind(str(path))
        stuck.listen(0)
        for _ in range(4):
            client = waiting.enter_context(socket.socket(socket.AF_UNIX))
            client.settimeout(0)
            client.connect_ex(str(path))
        with pytest.raises(ListenerError, match="cannot listen on"), listening(f"unix:{path}"):
            pass
    assert path.exists()


def test_a_file_that_is_no_socket_is_never_removed(tmp_path: Path) -> None:
    path = tmp_path / "precious"
    path.write_text("data", encoding="utf-8")
    with pytest.raises(ListenerError, match="a file that is no socket"), listening(f"unix:{path}"):
        pass
    assert path.read_text(encoding="utf-8") == "data"


def test_a_port_that_is_taken_is_said_to_be() -> None:
    with listening("127.0.0.1:0") as first:
        first.listen()
        address = f"127.0.0.1:{first.getsockname()[1]}"
        why = f"cannot listen on {address}: another process listens there"
        with pytest.raises(ListenerError, match=why), listening(address):
            pass


@pytest.mark.parametrize(
    ("address", "why"),
    [
        ("192.0.2.1:0", "this machine has no such address"),
        ("no-such-host.invalid:0", "cannot listen on no-such-host.invalid:0"),
        ("unix:/no/such/directory/s.sock", "the directory does not exist"),
        ("unix:/" + "x" * 120, "path too long"),
        ("a..b:0", "that is no host name"),
    ],
)
def test_what_cannot_be_listened_on_is_named(address: str, why: str) -> None:
    with pytest.raises(ListenerError, match=why), listening(address):
        pass
