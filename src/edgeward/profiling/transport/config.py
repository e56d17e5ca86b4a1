"""Key ``transport`` of a device: how it is reached."""

from __future__ import annotations

from typing import Annotated, ClassVar, Literal

from pydantic import Field

from edgeward.core.config import Closed

# A word that no program takes for one of its options.
Word = Annotated[str, Field(pattern=r"^[^-\s]\S*$")]
Path = Annotated[str, Field(min_length=1)]
Folder = Annotated[
    str,
    Field(
        min_length=1,
        description="Folder there in which each session makes one of its own, and removes it; needs room for the models.",
    ),
]
# `uname -m` there; the guard against filing another machine's figures under a name.
Machine = Annotated[str, Field(pattern=r"^[a-z0-9_]+$")] | None


class Reached(Closed):
    """A way to a device."""

    carries: ClassVar[Literal["process", "page"]] = "process"


class HostTransport(Reached):
    """Processes of their own on this machine."""

    kind: Literal["host"] = "host"


class RemoteTransport(Reached):
    """What every device needs that is another machine."""

    python: Word = Field(
        "python3",
        description="Interpreter there: a program on its PATH, or a path, absolute or from the user's home. Python 3.8 or newer, with "
        "numpy and the engine. Android has none of its own; Linux boards that speak adb do.",
    )
    folder: Folder = "/tmp"
    machine: Machine = Field(
        None,
        description="What `uname -m` says there (aarch64, armv7l, x86_64 ..), so that no other machine's figures are filed under this "
        "name; null: not checked.",
    )
    connect_timeout_s: float = Field(
        20,
        gt=0,
        description="Longest time to log in and start the interpreter, seconds.",
    )


class SshTransport(RemoteTransport):
    """A device with an SSH server, through the OpenSSH client of this machine, with the user's own ~/.ssh/config."""

    kind: Literal["ssh"]
    host: Word = Field(
        description="Name, address, or best an alias of ~/.ssh/config: then no address stands in the configuration."
    )
    port: Annotated[int, Field(ge=1, le=65535)] | None = Field(
        None,
        description="Port of the server; null: as ~/.ssh/config says, else 22. Termux on a phone uses 8022.",
    )
    user: Word | None = Field(
        None, description="User there; null: as ~/.ssh/config says, else the one here."
    )
    identity_file: Path | None = Field(
        None,
        description="Private key without a passphrase (or one that ssh-agent holds); null: those that ssh tries anyway.",
    )
    known_hosts: Path | None = Field(
        None,
        description="File with the device's host key; null: the user's own. An unknown or changed key is an error.",
    )


class AdbTransport(RemoteTransport):
    """A device with an Android debug daemon, through the adb client of this machine."""

    kind: Literal["adb"]
    serial: Word = Field(
        description="As `adb devices` shows it; for a device on the network address:port, after `adb connect`."
    )
    folder: Folder = "/data/local/tmp"


class EmulatedTransport(Reached):
    """Another architecture's programs on this machine, under QEMU's user-mode emulation; `tools/arm64_device.sh` sets it up."""

    kind: Literal["emulated"]
    emulator: Word = Field(description="QEMU's user-mode program for the architecture.")
    cpu: Word = Field(description="The CPU model that it emulates.")
    root: Path = Field(description="Folder with the architecture's own C library and loader.")
    python: Path = Field(description="Interpreter of that architecture.")
    packages: Path = Field(description="Folder with its numpy and its engine.")
    machine: str = Field(
        pattern=r"^[a-z0-9_]+$", description="What the interpreter must say that it runs on."
    )


class BrowserTransport(Reached):
    """A page in a browser of this machine that nobody looks at: Chromium, started anew for every question."""

    carries: ClassVar[Literal["process", "page"]] = "page"
    kind: Literal["browser"]
    program: Word = Field("chromium", description="Chromium's program on the PATH, or a path.")
    start_timeout_s: float = Field(
        60, gt=0, description="Longest time until its page asks for work, seconds."
    )


class PageTransport(Reached):
    """A page that this machine serves and that somebody opens on a phone or another machine: edgeward phone says where
    (docs/measure-in-a-browser.md)."""

    carries: ClassVar[Literal["process", "page"]] = "page"
    kind: Literal["page"]
    wait_s: float = Field(
        900, gt=0, le=86400, description="Longest time until somebody opens the page, seconds."
    )


TransportConfig = Annotated[
    HostTransport
    | SshTransport
    | AdbTransport
    | EmulatedTransport
    | BrowserTransport
    | PageTransport,
    Field(discriminator="kind", description="How the device is reached (docs/add-a-device.md)."),
]
