"""Devices with a debug daemon: a stand-in for adb's client, and the real client where there is one."""

from __future__ import annotations

import hashlib
import os
import shutil
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from profiling_adbd import Daemon
from profiling_devices import SMALL_AGENT, fake_client, gone, quick, sessions, until
from profiling_sshd import free_port

from edgeward.core.errors import UserError
from edgeward.profiling.config import ProfileConfig
from edgeward.profiling.transport import open_device, remote
from edgeward.profiling.transport.remote import RemoteDevice


def device(there: Path, serial: str = "A1B2C3", **changed: Any) -> ProfileConfig:
    transport = {
        "kind": "adb",
        "serial": serial,
        "python": sys.executable,
        "folder": str(there),
        "machine": None,
        "connect_timeout_s": 30,
    }
    return quick({**transport, **changed})


@pytest.fixture
def there(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    digest = hashlib.sha256(SMALL_AGENT).hexdigest()
    monkeypatch.setattr(remote, "agent_file", lambda engine: (SMALL_AGENT, digest))
    folder = tmp_path / "there"
    folder.mkdir()
    return folder


def look(cfg: ProfileConfig, **request: Any) -> dict[str, Any]:
    with open_device(cfg) as opened:
        return opened.ask({"task": "look", **request})


def refused(cfg: ProfileConfig) -> str:
    with pytest.raises(UserError) as caught:
        look(cfg)
    return str(caught.value)


def test_session_through_a_stand_in(
    there: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    log = fake_client(tmp_path, "adb", monkeypatch)
    model = tmp_path / "model.onnx"
    model.write_bytes(b"a model")
    answer = look(device(there), model=str(model))
    assert answer["sha256"] == [hashlib.sha256(b"a model").hexdigest()]
    assert sessions(there) == []
    assert log.read_text().splitlines()[1:6] == ["-s", "A1B2C3", "shell", "-T", "-e"]


@pytest.mark.parametrize(
    ("said", "told"),
    [
        ("say:error: device 'A1B2C3' not found:1", "`transport.serial`"),
        ("say:error: device unauthorized.:1", "accept the key"),
        ("say:error: device offline:1", "does not answer"),
        ("say:error: insufficient permissions for device: user in plugdev group:1", "udev rules"),
        ("say:error: something new:1", "check `transport`"),
        ("features:cmd", "too old to carry bytes unchanged"),
    ],
)
def test_each_failure_of_the_client_is_explained(
    there: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, said: str, told: str
) -> None:
    fake_client(tmp_path, "adb", monkeypatch)
    monkeypatch.setenv("FAKE", said)
    assert told in refused(device(there))


@pytest.fixture
def daemon(monkeypatch: pytest.MonkeyPatch) -> Iterator[Daemon]:
    """A daemon of the tests, known to a server of adb's own, which is ended afterwards."""
    adb = shutil.which("adb")
    if not adb:
        pytest.skip("no adb at hand; Debian's package adb has it")
    monkeypatch.setenv("ANDROID_ADB_SERVER_PORT", str(free_port()))
    running = Daemon("shell_v2,cmd")

    def control(*words: str) -> None:
        none = subprocess.DEVNULL  # a pipe would be held open by the server
        subprocess.run([adb, *words], check=True, stdout=none, stderr=none, timeout=60)

    control("start-server")
    control("connect", f"127.0.0.1:{running.port}")
    yield running
    control("kill-server")
    running.stop()


def test_session_through_the_real_client(daemon: Daemon, there: Path, tmp_path: Path) -> None:
    serial = f"127.0.0.1:{daemon.port}"
    model = tmp_path / "model.onnx"
    model.write_bytes(os.urandom(3_000_000))
    answer = look(device(there, serial), model=str(model))
    assert answer["sha256"] == [hashlib.sha256(model.read_bytes()).hexdigest()]
    assert sessions(there) == []
    assert "no-python does not exist there" in refused(device(there, serial, python="no-python"))
    assert "`transport.serial`" in refused(device(there, "127.0.0.1:1"))

    pids = tmp_path / "pids"

    def cut() -> None:
        until(lambda: pids.is_file() and len(pids.read_text().split()) == 2)
        assert isinstance(opened, RemoteDevice)
        opened.channel.kill()

    with open_device(device(there, serial)) as opened:
        threading.Thread(target=cut).start()
        with pytest.raises(UserError, match="connection was lost"):
            opened.ask({"task": "sleep", "pids": str(pids)})
    assert until(lambda: not sessions(there))
    assert until(lambda: all(gone(int(pid)) for pid in pids.read_text().split()))
