"""Devices behind a real SSH server on loopback, with keys of its own."""

from __future__ import annotations

import getpass
import hashlib
import json
import os
import platform
import shutil
import signal
import socket
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from profiling_devices import SMALL_AGENT, gone, quick, sessions, ssh_transport, until
from profiling_sshd import SSHD, Server, free_port, make_key, serve

from edgeward.core.errors import UserError
from edgeward.profiling import stage
from edgeward.profiling.config import ProfileConfig
from edgeward.profiling.transport import open_device, remote

pytestmark = pytest.mark.skipif(
    not (SSHD and shutil.which("ssh") and shutil.which("ssh-keygen")),
    reason="no sshd at hand; Debian's package openssh-server has it",
)


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    running = serve(tmp_path_factory.mktemp("sshd"))
    yield running
    running.stop()


@pytest.fixture
def there(tmp_path: Path) -> Path:
    folder = tmp_path / "there"
    folder.mkdir()
    return folder


@pytest.fixture
def small_agent(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(remote, "agent_file", lambda engine: (SMALL_AGENT, _digest(SMALL_AGENT)))


def _digest(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()


def device(server: Server, there: Path, **changed: Any) -> ProfileConfig:
    reach = {
        "host": "127.0.0.1",
        "port": server.port,
        "identity_file": str(server.identity),
        "known_hosts": str(server.known_hosts),
    }
    return quick(ssh_transport(there, **{**reach, **changed}))


def look(cfg: ProfileConfig, **request: Any) -> dict[str, Any]:
    with open_device(cfg) as opened:
        return opened.ask({"task": "look", **request})


def refused(cfg: ProfileConfig, **request: Any) -> str:
    with pytest.raises(UserError) as caught:
        look(cfg, **request)
    return str(caught.value)


def test_profile_through_ssh_is_whole_and_tells_nothing_of_the_device(
    server: Server, there: Path, fp32_model: Path, tmp_path: Path
) -> None:
    cfg = device(server, there, machine=platform.machine(), user=getpass.getuser())
    out = tmp_path / "host_quick.json"
    metrics = stage.run(cfg, model=fp32_model, out=out)
    profile = json.loads(out.read_text())
    setting = profile["settings"][0]
    assert setting["n"] >= 50
    assert metrics["latency_p50_ms"] == setting["latency_ms"]["p50"]["estimate"]
    assert profile["operators"]["executed"]["Conv"] == 3
    assert profile["emulated"] is False
    assert profile["config"]["transport"] == {"kind": "ssh"}
    assert sessions(there) == []
    text = out.read_text()
    for secret in (str(there), str(server.root), "127.0.0.1", f'"{socket.gethostname()}"'):
        assert secret not in text


def test_large_files_arrive_whole(
    server: Server, there: Path, tmp_path: Path, small_agent: None
) -> None:
    model = tmp_path / "model.onnx"
    model.write_bytes(np.random.default_rng(0).bytes(20_000_000))
    answer = look(device(server, there), model=str(model), models=[str(model)])
    assert answer["sha256"] == [_digest(model.read_bytes())] * 2
    assert sessions(there) == []


def test_host_unreachable(server: Server, there: Path) -> None:
    message = refused(device(server, there, port=free_port()))
    assert "no SSH server at this port" in message
    # Listens, but never says a word, as behind a firewall that swallows everything.
    with socket.socket() as mute:
        mute.bind(("127.0.0.1", 0))
        mute.listen()
        message = refused(device(server, there, port=mute.getsockname()[1], connect_timeout_s=1))
    assert "cannot be reached" in message or "no answer within" in message
    assert "connect_timeout_s" in message


def test_host_key_unknown_then_accepted(
    server: Server, there: Path, tmp_path: Path, small_agent: None
) -> None:
    known = tmp_path / "known_hosts"
    known.touch()
    cfg = device(server, there, known_hosts=str(known))
    assert "host key is not known" in refused(cfg)
    assert known.read_text() == ""
    shutil.copy(server.known_hosts, known)
    assert look(cfg)["ok"]


def test_host_key_changed(server: Server, there: Path, tmp_path: Path) -> None:
    other = make_key(tmp_path / "other").with_suffix(".pub").read_text()
    known = tmp_path / "known_hosts"
    known.write_text(f"[127.0.0.1]:{server.port} {other}")
    message = refused(device(server, there, known_hosts=str(known)))
    assert "host key has changed" in message
    assert "ssh-keygen -R" in message


def test_key_refused_then_accepted(
    server: Server, there: Path, tmp_path: Path, small_agent: None
) -> None:
    key = make_key(tmp_path / "key")
    cfg = device(server, there, identity_file=str(key))
    assert "refuses the key" in refused(cfg)
    with (server.root / "authorized_keys").open("a") as handle:
        handle.write(key.with_suffix(".pub").read_text())
    assert look(cfg)["ok"]


def test_key_that_others_can_read(server: Server, there: Path, tmp_path: Path) -> None:
    key = tmp_path / "key"
    shutil.copy(server.identity, key)
    key.chmod(0o644)
    assert "others can read" in refused(device(server, there, identity_file=str(key)))


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A file system of 1 MB."""
    disk = tmp_path / "disk"
    disk.mkdir()
    options = ["-t", "tmpfs", "-o", "size=1m", "tmpfs", str(disk)]
    if os.geteuid() or subprocess.run(["mount", *options], capture_output=True).returncode:
        pytest.skip(
            "this user may not mount a small file system; a limit stands in for it elsewhere"
        )
    yield disk
    subprocess.run(["umount", str(disk)], check=True)


def test_disk_full_then_freed(
    server: Server, small_disk: Path, tmp_path: Path, small_agent: None
) -> None:
    model = tmp_path / "model.onnx"
    model.write_bytes(bytes(700_000))
    ballast = small_disk / "ballast"
    ballast.write_bytes(bytes(600_000))
    cfg = device(server, small_disk)
    message = refused(cfg, model=str(model))
    assert f"no space is left in `transport.folder` = {small_disk}" in message
    assert "0.7 MB" in message
    assert list(small_disk.iterdir()) == [ballast]
    ballast.unlink()
    assert look(cfg, model=str(model))["sha256"] == [_digest(model.read_bytes())]


def test_connection_killed_in_mid_run_then_retried(
    server: Server, there: Path, tmp_path: Path, small_agent: None
) -> None:
    cfg, pids = device(server, there), tmp_path / "pids"

    def running() -> list[int]:
        assert until(lambda: pids.is_file() and len(pids.read_text().split()) == 2)
        return [int(pid) for pid in pids.read_text().split()]

    def cut() -> None:
        running()
        for connection in server.connections():
            os.kill(connection, signal.SIGKILL)

    with open_device(cfg) as opened:
        threading.Thread(target=cut).start()
        with pytest.raises(UserError, match="connection was lost while a model was being profiled"):
            opened.ask({"task": "sleep", "pids": str(pids)})
    assert until(lambda: all(gone(pid) for pid in running()))
    assert until(lambda: not sessions(there))
    assert look(cfg)["ok"]


def test_engine_missing(server: Server, there: Path, fp32_model: Path, tmp_path: Path) -> None:
    bare = tmp_path / "bare"
    subprocess.run([sys.executable, "-m", "venv", "--without-pip", str(bare)], check=True)
    cfg = device(server, there, python=str(bare / "bin" / "python"))
    with pytest.raises(UserError, match=r"the engine is missing: .* cannot be imported"):
        stage.run(cfg, model=fp32_model, out=tmp_path / "x.json")
    assert sessions(there) == []
    assert not (tmp_path / "x.json").exists()


def test_wrong_machine_and_missing_interpreter(server: Server, there: Path) -> None:
    message = refused(device(server, there, machine="riscv64"))
    assert f"`transport.machine` is riscv64, but it is {platform.machine()}" in message
    assert "no-python does not exist" in refused(device(server, there, python="no-python"))


def test_the_agent_leaves_nothing_beside_its_folder(
    server: Server, there: Path, small_agent: None
) -> None:
    """Where the agent may write by habit (temporary files, caches) is its own folder."""
    answer = look(device(server, there))
    assert answer["temporary"] == answer["folder"]
    assert Path(answer["folder"]).parent == there
