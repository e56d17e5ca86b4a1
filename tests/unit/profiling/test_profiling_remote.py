"""Sessions with a reached device, through a stand-in for the ssh client: no server is needed."""

from __future__ import annotations

import ast
import hashlib
import io
import json
import os
import platform
import signal
import struct
import subprocess
import sys
import threading
import time
from pathlib import Path
from typing import Any

import pytest
from profiling_devices import (
    SMALL_AGENT,
    fake_client,
    gone,
    quick,
    sessions,
    ssh_transport,
    until,
)
from pydantic import ValidationError
from refusals import naming

from edgeward.core.errors import UserError
from edgeward.core.plugins import load, names
from edgeward.pipeline.compose import compose
from edgeward.profiling.bundle import AGENT
from edgeward.profiling.config import ProfileConfig
from edgeward.profiling.transport import open_device, remote, remote_session
from edgeward.profiling.transport.remote import RemoteDevice
from edgeward.runtimes import agent as shared
from edgeward.runtimes.base import runtime

DIGEST = hashlib.sha256(SMALL_AGENT).hexdigest()


@pytest.fixture
def there(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The folder on the device; `ssh` is the stand-in and the agent the small one."""
    fake_client(tmp_path, "ssh", monkeypatch)
    monkeypatch.setattr(remote, "agent_file", lambda engine: (SMALL_AGENT, DIGEST))
    folder = tmp_path / "a device's folder"
    folder.mkdir()
    return folder


@pytest.fixture
def model(tmp_path: Path) -> Path:
    path = tmp_path / "model.onnx"
    path.write_bytes(bytes(range(256)) * 1000)
    return path


def ask(cfg: ProfileConfig, **request: Any) -> dict[str, Any]:
    with open_device(cfg) as device:
        return device.ask({"task": "look", **request})


def refused(cfg: ProfileConfig, **request: Any) -> str:
    """Return the message of the error that a question ends with."""
    with pytest.raises(UserError) as caught:
        ask(cfg, **request)
    return str(caught.value)


def test_files_are_copied_once_and_removed_at_the_end(
    there: Path, model: Path, tmp_path: Path
) -> None:
    other = tmp_path / "other.onnx"
    other.write_bytes(b"other")
    with open_device(quick(ssh_transport(there))) as device:
        first = device.ask({"task": "look", "model": str(model)})
        second = device.ask({"task": "look", "models": [str(model), str(other), str(model)]})
        assert not device.emulated
        assert len(sessions(there)) == 1
    expected = [hashlib.sha256(p.read_bytes()).hexdigest() for p in (model, other)]
    assert first["sha256"] == expected[:1]
    assert second["sha256"] == [*expected, expected[0]]
    assert second["paths"][0] == second["paths"][2] == first["paths"][0]
    assert second["files"] == ["agent.pyz", "model0.onnx", "model1.onnx"]
    assert first["folder"] == first["temporary"]
    assert Path(first["folder"]).parent == there
    assert sessions(there) == []


def test_a_model_that_changed_is_copied_again(there: Path, model: Path) -> None:
    with open_device(quick(ssh_transport(there))) as device:
        before = device.ask({"task": "look", "model": str(model)})
        model.write_bytes(b"exported again")
        after = device.ask({"task": "look", "model": str(model)})
    assert before["sha256"] != after["sha256"] == [hashlib.sha256(b"exported again").hexdigest()]


def test_what_a_login_shell_prints_does_no_harm(
    there: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("FAKE", "noise")
    assert ask(quick(ssh_transport(there)))["files"] == ["agent.pyz"]


def test_settings_reach_the_client(there: Path, tmp_path: Path) -> None:
    for name in ("a key%d", "known hosts"):
        (tmp_path / name).touch()
    changed = {
        "port": 8022,
        "user": "nurse",
        "identity_file": str(tmp_path / "a key%d"),
        "known_hosts": str(tmp_path / "known hosts"),
    }
    ask(quick(ssh_transport(there, **changed)))
    arguments = (tmp_path / "ssh.arguments").read_text().splitlines()
    for expected in (
        "-p8022",
        "-lnurse",
        f'-oIdentityFile="{tmp_path}/a key%%d"',
        f'-oUserKnownHostsFile="{tmp_path}/known hosts"',
        "-oIdentitiesOnly=yes",
        "-oBatchMode=yes",
        "-oStrictHostKeyChecking=yes",
        "-oConnectTimeout=30",
    ):
        assert expected in arguments
    assert arguments[-3:-1] == ["--", "bedside"]


# What OpenSSH 9.2's client wrote, with its exit status, and what the user must be told.
RECORDED = [
    (
        "ssh: Could not resolve hostname bedside: Name or service not known:255",
        ["`transport.host` = bedside is not known", "~/.ssh/config"],
    ),
    (
        "ssh: connect to host bedside port 22: Connection refused:255",
        ["no SSH server at this port", "transport.port"],
    ),
    ("ssh: connect to host bedside port 22: Connection timed out:255", ["cannot be reached"]),
    ("ssh: connect to host bedside port 22: No route to host:255", ["cannot be reached"]),
    ("ssh: connect to host bedside port 22: Network is unreachable:255", ["cannot be reached"]),
    (
        "Connection timed out during banner exchange\nConnection to 10.0.0.7 port 22 timed out:255",
        ["cannot be reached", "connect_timeout_s"],
    ),
    (
        "No ED25519 host key is known for bedside and you have requested strict checking.\n"
        "Host key verification failed.:255",
        ["host key is not known", "transport.known_hosts"],
    ),
    (
        "@    WARNING: REMOTE HOST IDENTIFICATION HAS CHANGED!     @\n"
        "IT IS POSSIBLE THAT SOMEONE IS DOING SOMETHING NASTY!\nHost key verification failed.:255",
        ["host key has changed", "ssh-keygen -R"],
    ),
    (
        "nurse@bedside: Permission denied (publickey).:255",
        ["refuses the key", "transport.identity_file", "transport.user"],
    ),
    (
        "@         WARNING: UNPROTECTED PRIVATE KEY FILE!          @\nPermissions 0644 for 'id' are "
        "too open.\nnurse@bedside: Permission denied (publickey).:255",
        ["others can read", "chmod 600"],
    ),
    (
        "kex_exchange_identification: read: Connection reset by peer:255",
        ["before the log-in", "reset by peer"],
    ),
    ("a complaint that nobody has seen:255", ["no session could be opened", "nobody has seen"]),
    ("sh: 1: exec: python9: not found:127", ["does not exist there", "transport.python"]),
    ("bash: line 1: /opt/python: Permission denied:126", ["cannot be executed there"]),
]


@pytest.mark.parametrize(("said", "told"), RECORDED, ids=[said[:30] for said, _ in RECORDED])
def test_each_failure_of_the_client_is_explained(
    there: Path, monkeypatch: pytest.MonkeyPatch, said: str, told: list[str]
) -> None:
    monkeypatch.setenv("FAKE", f"say:{said}")
    message = refused(quick(ssh_transport(there)))
    for part in [*told, "device 'host_quick'"]:
        assert part in message
    assert said.rsplit(":", 1)[0].splitlines()[-1] in message


def test_a_retry_works_after_a_corrupted_transfer(
    there: Path, model: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    cfg = quick(ssh_transport(there))
    # Past the remote session and the agent, in the middle of the model.
    at = len(Path(remote_session.__file__).read_bytes()) + len(SMALL_AGENT) + 100_000
    monkeypatch.setenv("FAKE", f"flip:{at}")
    message = refused(cfg, model=str(model))
    assert "was changed on its way" in message
    assert hashlib.sha256(model.read_bytes()).hexdigest() in message
    assert str(model) in message
    assert until(lambda: not sessions(there))
    monkeypatch.setenv("FAKE", "run")
    assert ask(cfg, model=str(model))["ok"]


def test_a_corrupted_agent_is_not_started(there: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    at = len(Path(remote_session.__file__).read_bytes()) + 500
    monkeypatch.setenv("FAKE", f"flip:{at}")
    assert "the agent (0.0 MB) was changed on its way" in refused(quick(ssh_transport(there)))


def test_disk_full(there: Path, model: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    cfg = quick(ssh_transport(there))
    monkeypatch.setenv("FAKE", "full:200")  # blocks of 512 bytes: less than the model has
    with open_device(cfg) as device:
        with pytest.raises(
            UserError, match=naming("transport.folder", "0.3 MB", "config/profile/host_quick.yaml")
        ):
            device.ask({"task": "look", "model": str(model)})
        assert device.ask({"task": "look"})["files"] == ["agent.pyz"]  # nothing half-written
    assert sessions(there) == []


def test_folder_that_cannot_be_used(there: Path) -> None:
    for folder in (there / "missing", Path(__file__)):
        message = refused(quick(ssh_transport(folder)))
        assert f"cannot be written in `transport.folder` = {folder}" in message
        assert "config/profile/host_quick.yaml" in message


def test_interpreter_that_cannot_be_used(there: Path, tmp_path: Path) -> None:
    foreign = tmp_path / "python-of-another-architecture"
    header = struct.pack("<16sHHI", b"\x7fELF\x02\x01\x01", 2, 243 if _arm() else 183, 1)
    foreign.write_bytes(header.ljust(200, b"\0"))
    foreign.chmod(0o755)
    message = refused(quick(ssh_transport(there, python=str(foreign))))
    assert "for another architecture?" in message
    assert "`transport.python`" in message
    message = refused(quick(ssh_transport(there, python="no-such-python")))
    assert "no-such-python does not exist there" in message
    old = tmp_path / "old"
    pretend = "import sys; sys.version_info = (2, 7, 18); exec(sys.argv[1])"
    old.write_text(f'#!/bin/sh\nexec {sys.executable} -c "{pretend}" "$2"\n')
    old.chmod(0o755)
    message = refused(quick(ssh_transport(there, python=str(old))))
    assert "is too old: edgeward needs Python 3.8, this is 2.7" in message


def _arm() -> bool:
    return platform.machine() == "aarch64"


def test_another_machine_than_the_one_meant(there: Path) -> None:
    message = refused(quick(ssh_transport(there, machine="riscv64")))
    assert f"`transport.machine` is riscv64, but it is {platform.machine()}" in message
    assert sessions(there) == []
    assert ask(quick(ssh_transport(there, machine=platform.machine())))["ok"]


def test_device_that_says_nothing(there: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("FAKE", "silent")
    message = refused(quick(ssh_transport(there, connect_timeout_s=0.1)))
    assert "no answer within `transport.connect_timeout_s` = 0.1 s" in message


def test_deadline_is_enforced_there_and_the_session_goes_on(there: Path, tmp_path: Path) -> None:
    pids = tmp_path / "pids"
    with open_device(quick(ssh_transport(there), deadline_s=1.0)) as device:
        with pytest.raises(
            UserError, match=naming("1 s", "deadline_s", "config/profile/host_quick.yaml")
        ):
            device.ask({"task": "sleep", "pids": str(pids)})
        assert until(lambda: all(gone(int(pid)) for pid in pids.read_text().split()))
        assert device.ask({"task": "look"})["ok"]


def test_agent_that_dies_is_reported(there: Path, model: Path) -> None:
    message = refused(quick(ssh_transport(there)), task="die", model=str(model))
    assert f"{model}: the agent ended with status 1 and without an answer; out of luck" in message


def _sleeping(pids: Path) -> list[int]:
    assert until(lambda: pids.is_file() and len(pids.read_text().split()) == 2)
    return [int(pid) for pid in pids.read_text().split()]


def test_connection_lost_in_mid_run(
    there: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("FAKE", "relay")
    cfg, pids = quick(ssh_transport(there)), tmp_path / "pids"
    with open_device(cfg) as device:

        def cut() -> None:
            _sleeping(pids)
            assert isinstance(device, RemoteDevice)
            device.channel.kill()

        threading.Thread(target=cut).start()
        with pytest.raises(UserError, match="connection was lost while a model was being profiled"):
            device.ask({"task": "sleep", "pids": str(pids)})
    assert until(lambda: not sessions(there))
    assert until(lambda: all(gone(pid) for pid in _sleeping(pids)))
    assert ask(cfg)["ok"]


@pytest.mark.parametrize("how", [signal.SIGKILL, signal.SIGINT])
def test_nothing_stays_when_our_process_is_ended(
    there: Path, tmp_path: Path, how: signal.Signals
) -> None:
    pids = tmp_path / "pids"
    cfg = quick(ssh_transport(there)).model_dump_json()
    program = (
        # A shell's background job hands down SIGINT ignored, and Python then leaves it so.
        "import signal, sys\n"
        "signal.signal(signal.SIGINT, signal.default_int_handler)\n"
        "from edgeward.profiling.config import ProfileConfig\n"
        "from edgeward.profiling.transport import open_device, remote\n"
        f"remote.agent_file = lambda engine: ({SMALL_AGENT!r}, {DIGEST!r})\n"
        f"with open_device(ProfileConfig.model_validate_json({cfg!r})) as device:\n"
        f"    device.ask({{'task': 'sleep', 'pids': {str(pids)!r}}})\n"
    )
    process = subprocess.Popen([sys.executable, "-c", program], stderr=subprocess.DEVNULL)
    running = _sleeping(pids)
    assert len(sessions(there)) == 1
    process.send_signal(how)
    process.wait(30)
    assert until(lambda: not sessions(there))
    assert until(lambda: all(gone(pid) for pid in running))


def test_session_without_a_sign_of_life_ends(there: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(remote, "LEASE_S", 1)
    with open_device(quick(ssh_transport(there))) as device:
        assert until(lambda: not sessions(there))
        with pytest.raises(UserError, match="connection was lost"):
            device.ask({"task": "look"})


def test_only_old_folders_of_our_own_are_removed(tmp_path: Path) -> None:
    old, young, others, link = (
        tmp_path / name
        for name in ("edgeward-session-1", "edgeward-session-2", "results", "edgeward-session-3")
    )
    for folder in (old, young, others):
        folder.mkdir()
        (folder / "file").touch()
    link.symlink_to(others)
    long_ago = time.time() - remote_session.STALE_S - 10
    for path in (old, others, link):
        os.utime(path, (long_ago, long_ago), follow_symlinks=False)
    assert remote_session.remove_stale(tmp_path, time.time()) == 1
    assert sorted(p.name for p in tmp_path.iterdir()) == [young.name, link.name, others.name]
    assert (others / "file").exists()


def _generic(tree: ast.Module) -> list[str]:
    """Return what Python 3.8 cannot evaluate: built-in or abstract generics outside annotations."""
    hidden: set[int] = set()
    for node in ast.walk(tree):
        hints = (getattr(node, "annotation", None), getattr(node, "returns", None))
        hidden.update(id(part) for hint in hints if hint for part in ast.walk(hint))
    abstract = {
        alias.asname or alias.name
        for node in ast.walk(tree)
        if isinstance(node, ast.ImportFrom) and node.module == "collections.abc"
        for alias in node.names
    }
    names = abstract | {"dict", "frozenset", "list", "set", "tuple", "type"}
    return [
        ast.unparse(node)
        for node in ast.walk(tree)
        if isinstance(node, ast.Subscript) and id(node) not in hidden
        if isinstance(node.value, ast.Name) and node.value.id in names
    ]


ON_DEVICE = [
    Path(remote_session.__file__),
    Path(shared.__file__),
    *AGENT.glob("*.py"),
    *(
        Path(str(load("edgeward.runtimes", name, "agent", "").__file__))
        for name in names("edgeward.runtimes")
        if runtime(name, "").runs_in == "process"
    ),
]


@pytest.mark.parametrize("path", ON_DEVICE, ids=lambda p: f"{p.parent.name}.{p.stem}")
def test_what_runs_on_a_device_needs_no_more_than_python_3_8(path: Path) -> None:
    tree = ast.parse(path.read_text(), feature_version=(3, 8))
    assert _generic(tree) == []


def test_the_search_for_generics_finds_them() -> None:
    source = (
        "from collections.abc import Callable\nRun = Callable[[], int]\nx: list[int] = list[int]()"
    )
    assert _generic(ast.parse(source)) == ["Callable[[], int]", "list[int]"]


def test_file_cut_short_ends_the_session(tmp_path: Path) -> None:
    header = {"do": "put", "name": "model.onnx", "size": 1000, "sha256": "0" * 64}
    hello = {"mark": "m", "folder": str(tmp_path), "lease_s": 60}
    sent = "".join(json.dumps(line) + "\n" for line in (hello, header)).encode() + b"too few"
    program = f"import sys; sys.path.insert(0, {str(Path(remote_session.__file__).parent)!r}); import remote_session"
    done = subprocess.run(
        [
            sys.executable,
            "-c",
            f"{program}; remote_session.main(sys.stdin.buffer, sys.stdout.buffer)",
        ],
        input=sent,
        capture_output=True,
    )
    answers = io.BytesIO(done.stdout).readlines()
    assert done.returncode == 0, done.stderr
    assert json.loads(answers[-1])["ok"]  # only the greeting
    assert list(tmp_path.iterdir()) == []


def test_missing_client(there: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", str(there))
    assert "`ssh` is not on this machine" in refused(quick(ssh_transport(there)))


@pytest.mark.parametrize("key", ["identity_file", "known_hosts"])
def test_files_of_the_client_must_exist(there: Path, key: str) -> None:
    message = refused(quick(ssh_transport(there, **{key: "nowhere/at all"})))
    assert f"`transport.{key}` = nowhere/at all is not a file" in message


@pytest.mark.parametrize(
    ("changed", "told"),
    [
        ({"host": "-oProxyCommand=date"}, "host"),  # no option of ssh comes in this way
        ({"user": "-x"}, "user"),
        ({"python": "python3 -v"}, "python"),
        ({"port": 70000}, "port"),
        ({"connect_timeout_s": 0}, "connect_timeout_s"),
        ({"machine": "Raspberry Pi"}, "machine"),
        ({"folder": ""}, "folder"),
        ({"pasword": "x"}, "pasword"),
    ],
)
def test_transports_that_cannot_work_are_refused(
    tmp_path: Path, changed: dict[str, Any], told: str
) -> None:
    with pytest.raises(ValidationError, match=naming(f"transport.ssh.{told}")):
        quick(ssh_transport(tmp_path, **changed))


def test_misspelt_key_of_a_transport_gets_a_hint() -> None:
    root = Path(__file__).parents[3] / "config"
    with pytest.raises(
        UserError, match=naming("'profile.transport.known_host'", "'profile.transport.known_hosts'")
    ):
        compose((root,), {"device": "ssh_example"}, ["profile.transport.known_host=x"])
