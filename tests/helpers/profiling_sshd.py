"""An SSH server of our own on loopback: own host keys, own user keys, no right of the system's."""

from __future__ import annotations

import contextlib
import getpass
import os
import shutil
import socket
import subprocess
import time
from dataclasses import dataclass
from pathlib import Path

SSHD = shutil.which("sshd", path=f"{os.environ.get('PATH', '')}:/usr/sbin:/usr/local/sbin")


def make_key(path: Path) -> Path:
    """Make a key pair without a passphrase."""
    command = ["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-C", "test", "-f", str(path)]
    subprocess.run(command, check=True, stdin=subprocess.DEVNULL)
    return path


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


@dataclass
class Server:
    """A running server and what a client needs to reach it."""

    root: Path
    port: int
    process: subprocess.Popen[bytes]

    @property
    def identity(self) -> Path:
        return self.root / "user"

    @property
    def known_hosts(self) -> Path:
        return self.root / "known_hosts"

    def connections(self) -> list[int]:
        """Return the processes that serve connections."""
        found = []
        for status in Path("/proc").glob("[0-9]*/stat"):
            try:
                pid, _, rest = status.read_text().partition(" ")
            except OSError:
                continue
            if rest.rpartition(")")[2].split()[1] == str(self.process.pid):
                found.append(int(pid))
        return found

    def stop(self) -> None:
        for pid in self.connections():
            with contextlib.suppress(ProcessLookupError):  # it may end by itself meanwhile
                os.kill(pid, 15)
        self.process.terminate()
        self.process.wait(10)


def serve(root: Path) -> Server:
    """Start a server in the foreground whose files all lie in `root`; wait until it listens."""
    root.chmod(0o700)
    make_key(root / "host")
    make_key(root / "user")
    shutil.copy(root / "user.pub", root / "authorized_keys")
    port = free_port()
    public = (root / "host.pub").read_text()
    (root / "known_hosts").write_text(f"[127.0.0.1]:{port} {public}")
    (root / "sshd_config").write_text(
        f"ListenAddress 127.0.0.1:{port}\n"
        f"HostKey {root}/host\n"
        f"AuthorizedKeysFile {root}/authorized_keys\n"
        "PidFile none\nStrictModes no\nUsePAM no\nPermitRootLogin yes\n"
        "PasswordAuthentication no\nKbdInteractiveAuthentication no\n"
        f"AllowUsers {getpass.getuser()}\n"
    )
    if os.geteuid() == 0:
        Path("/run/sshd").mkdir(exist_ok=True)  # the server insists on its empty folder
    assert SSHD
    command = [str(SSHD), "-D", "-e", "-f", str(root / "sshd_config")]
    with (root / "log").open("wb") as log:
        process = subprocess.Popen(command, stdin=subprocess.DEVNULL, stderr=log)
    for _ in range(100):
        with socket.socket() as probe:
            if probe.connect_ex(("127.0.0.1", port)) == 0:
                return Server(root, port, process)
        time.sleep(0.1)
    process.kill()
    raise RuntimeError((root / "log").read_text())
