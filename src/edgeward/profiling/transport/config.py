"""Key ``transport`` of a device: how it is reached."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field

from edgeward.core.config import Closed

# A word that no program takes for one of its options.
Word = Annotated[str, Field(pattern=r"^[^-\s]\S*$")]
Path = Annotated[str, Field(min_length=1)]
# `uname -m` there; the guard against filing another machine's figures under a name.
Machine = Annotated[str, Field(pattern=r"^[a-z0-9_]+$")] | None


class HostTransport(Closed):
    """Processes on this machine."""

    kind: Literal["host"]


class RemoteTransport(Closed):
    """What every device needs that is another machine."""

    python: Word = Field(description="Interpreter on the device, 3.8 or newer.")
    folder: Path = Field(description="Folder there in which a session makes its own.")
    machine: Machine = Field(description="What `uname -m` says there; null = not checked.")
    connect_timeout_s: float = Field(gt=0, description="Until the interpreter there answers.")


class SshTransport(RemoteTransport):
    """A device with an SSH server, through the OpenSSH client of this machine."""

    kind: Literal["ssh"]
    host: Word = Field(description="Name, address, or alias of ~/.ssh/config.")
    port: Annotated[int, Field(ge=1, le=65535)] | None = Field(description="null = ssh's choice.")
    user: Word | None = Field(description="null = ssh's choice.")
    identity_file: Path | None = Field(description="Private key; null = ssh's choice.")
    known_hosts: Path | None = Field(description="Known host keys; null = the user's own.")


class AdbTransport(RemoteTransport):
    """A device with an Android debug daemon, through the adb client of this machine."""

    kind: Literal["adb"]
    serial: Word = Field(description="As `adb devices` shows it.")


class EmulatedTransport(Closed):
    """Another architecture's programs on this machine, under QEMU's user-mode emulation."""

    kind: Literal["emulated"]
    emulator: Word = Field(description="QEMU's program for the architecture.")
    cpu: Word = Field(description="The CPU model that it emulates.")
    root: Path = Field(description="Folder with the architecture's dynamic loader and C library.")
    python: Path = Field(description="Interpreter of that architecture.")
    packages: Path = Field(description="Folder with its numpy and its engine.")
    machine: Annotated[str, Field(pattern=r"^[a-z0-9_]+$", description="Its architecture.")]


TransportConfig = Annotated[
    HostTransport | SshTransport | AdbTransport | EmulatedTransport,
    Field(discriminator="kind", description="How the device is reached."),
]
