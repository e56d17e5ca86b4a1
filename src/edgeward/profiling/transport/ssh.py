"""Devices behind an SSH server, through the system's OpenSSH client."""

from __future__ import annotations

import math
import re
from pathlib import Path
from typing import TYPE_CHECKING

from edgeward.profiling.transport.remote import RemoteDevice

if TYPE_CHECKING:
    from edgeward.profiling.transport.config import SshTransport

# Nothing may be asked (there is no one to answer), nothing be learnt (a host key is for the user to
# accept), nothing but the session be forwarded or started.
OPTIONS = {
    "BatchMode": "yes",
    "StrictHostKeyChecking": "yes",
    "UpdateHostKeys": "no",
    "ControlMaster": "no",
    "ControlPath": "none",
    "ClearAllForwardings": "yes",
    "ForwardAgent": "no",
    "ForwardX11": "no",
    "PermitLocalCommand": "no",
    "RemoteCommand": "none",
    "RequestTTY": "no",
    "LogLevel": "ERROR",
    # A peer that is gone without a word is noticed after 45 s.
    "ServerAliveInterval": "15",
    "ServerAliveCountMax": "3",
}
# What OpenSSH's client says -> what it means and what to do; the first that is found counts.
COMPLAINTS = {
    r"Could not resolve hostname": "`transport.host` = {host} is not known to this machine. Change it "
    "in {where}, or add the name to ~/.ssh/config.",
    r"Connection refused": "{host} answers, but has no SSH server at this port. Start it there, or "
    "change `transport.port` in {where}.",
    r"connect to host .*(timed out|No route|unreachable)|timed out during": "{host} cannot be reached. "
    "Is it up and in this network? Change `transport.host`, `transport.port` or "
    "`transport.connect_timeout_s` in {where}.",
    r"REMOTE HOST IDENTIFICATION HAS CHANGED": "its host key has changed: another device, one that "
    "was set up again, or an attack. If you know why, remove the old key with `ssh-keygen -R`, and "
    "log in once by hand to accept the new one.",
    r"host key is known|Host key verification failed": "its host key is not known. Log in once by "
    "hand with `ssh` to check and accept it, or change `transport.known_hosts` in {where}.",
    r"UNPROTECTED PRIVATE KEY|bad permissions": "others can read the file of "
    "`transport.identity_file`, so ssh does not use it. `chmod 600` it.",
    r"Permission denied|Too many authentication failures": "it refuses the key. Put the public key "
    "into ~/.ssh/authorized_keys there, load the private one into the agent if it has a passphrase, or "
    "change `transport.user` or `transport.identity_file` in {where}.",
    r"kex_exchange_identification|Connection (closed|reset) by": "it closes the connection before the "
    "log-in. Is this an SSH server, and does it take more connections? Run again.",
}


def _quoted(path: str) -> str:
    """Write a file name as ssh's configuration takes it: tokens (%) and spaces mean themselves."""
    name = str(Path(path).expanduser().resolve()).replace("%", "%%")
    return f'"{name}"'


class SshDevice(RemoteDevice):
    """A device behind an SSH server."""

    program = "ssh"
    package = "OpenSSH's client"
    transport: SshTransport

    def _check(self) -> None:
        for key in ("identity_file", "known_hosts"):
            name = getattr(self.transport, key)
            if name is not None and not Path(name).expanduser().is_file():
                raise self._error(
                    f"`transport.{key}` = {name} is not a file on this machine. Change it in {self.where}."
                )

    def _client(self) -> list[str]:
        t = self.transport
        options = {**OPTIONS, "ConnectTimeout": str(math.ceil(t.connect_timeout_s))}
        if t.identity_file is not None:
            options |= {"IdentityFile": _quoted(t.identity_file), "IdentitiesOnly": "yes"}
        if t.known_hosts is not None:
            options |= {
                "UserKnownHostsFile": _quoted(t.known_hosts),
                "GlobalKnownHostsFile": "none",
            }
        command = ["ssh", *(f"-o{key}={value}" for key, value in options.items())]
        if t.port is not None:
            command.append(f"-p{t.port}")
        if t.user is not None:
            command.append(f"-l{t.user}")
        return [*command, "--", t.host]

    def _diagnose(self, complaint: str) -> str | None:
        for pattern, meaning in COMPLAINTS.items():
            if re.search(pattern, complaint):
                return meaning.format(host=self.transport.host, where=self.where)
        return None
