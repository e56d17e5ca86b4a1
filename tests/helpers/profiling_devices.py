"""Remote devices for tests: a configuration, a small agent, and a stand-in for the ssh client."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from shipped import shipped

from edgeward.profiling.config import ProfileConfig
from edgeward.profiling.transport import remote_session

# Does what a test asks for; an agent is any file that Python starts.
SMALL_AGENT = b"""
import hashlib, json, os, subprocess, sys, time
request = json.load(sys.stdin)
if request["task"] == "sleep":
    child = subprocess.Popen(["sleep", "300"])
    with open(request["pids"], "w") as handle:
        handle.write("%d %d" % (os.getpid(), child.pid))
    time.sleep(300)
elif request["task"] == "die":
    sys.exit("out of luck")
else:
    paths = request.get("models", []) + [request[k] for k in ("model",) if k in request]
    print(json.dumps({
        "ok": True,
        "paths": paths,
        "sha256": [hashlib.sha256(open(p, "rb").read()).hexdigest() for p in paths],
        "folder": os.getcwd(),
        "files": sorted(os.listdir()),
        "temporary": os.environ["TMPDIR"],
    }))
"""

# Takes the command line of ssh or adb, runs the last argument in a shell here, and does to it what FAKE says.
CLIENT = """#!{python} -S
import os, subprocess, sys, threading
mode, _, argument = os.environ.get("FAKE", "run").partition(":")
with open({log!r}, "w") as log:
    log.write("\\n".join(sys.argv))
if sys.argv[-1] == "features" and mode != "say":
    print(argument or "cmd\\nshell_v2")
    sys.exit()
if mode == "say":
    text, status = argument.rsplit(":", 1)
    sys.stderr.write(text + "\\r\\n")
    sys.exit(int(status))
command = sys.argv[-1]
if mode == "noise":
    command = "echo Welcome; echo to this device; " + command
if mode == "full":
    command = "ulimit -f " + argument + "; " + command
if mode == "silent":
    command = "exec sleep 60"
if mode not in ("flip", "relay"):
    os.execv("/bin/sh", ["sh", "-c", command])
shell = subprocess.Popen(["sh", "-c", command], stdin=subprocess.PIPE)
at, seen = int(argument or -1), 0
while chunk := os.read(0, 65536):
    if seen <= at < seen + len(chunk):
        changed = bytearray(chunk)
        changed[at - seen] ^= 1
        chunk = bytes(changed)
    seen += len(chunk)
    shell.stdin.write(chunk)
    shell.stdin.flush()
shell.stdin.close()
sys.exit(shell.wait())
"""


def fake_client(folder: Path, name: str, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Put a stand-in on the PATH; return the file with the arguments of its latest start."""
    log = folder / f"{name}.arguments"
    program = folder / "bin" / name
    program.parent.mkdir(exist_ok=True)
    program.write_text(CLIENT.format(python=sys.executable, log=str(log)))
    program.chmod(0o755)
    path = f"{program.parent}:/usr/bin:/bin"
    monkeypatch.setenv("PATH", path)
    return log


def quick(transport: dict[str, Any], **changed: Any) -> ProfileConfig:
    values = shipped("profile", "host_quick")
    cfg = ProfileConfig(**{**values, "transport": transport})
    return cfg.model_copy(update=changed)


def ssh_transport(folder: Path, /, **changed: Any) -> dict[str, Any]:
    return {
        "kind": "ssh",
        "host": "bedside",
        "port": None,
        "user": None,
        "identity_file": None,
        "known_hosts": None,
        "python": sys.executable,
        "folder": str(folder),
        "machine": None,
        "connect_timeout_s": 30,
        **changed,
    }


def until(condition: Callable[[], bool], seconds: float = 30) -> bool:
    """Wait for a condition; return whether it came true."""
    end = time.monotonic() + seconds
    while not condition():
        if time.monotonic() > end:
            return False
        time.sleep(0.05)
    return True


def sessions(folder: Path) -> list[Path]:
    """Return the session folders that exist on a device."""
    return list(folder.glob(remote_session.PREFIX + "*"))


def gone(pid: int) -> bool:
    """Return whether a process has ended; a zombie has."""
    try:
        return ") Z " in Path(f"/proc/{pid}/stat").read_text()
    except OSError:
        return True
