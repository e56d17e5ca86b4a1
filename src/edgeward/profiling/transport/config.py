"""Key ``transport`` of a device: how it is reached."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field

from edgeward.core.config import Closed


class HostTransport(Closed):
    """Processes on this machine."""

    kind: Literal["host"]


TransportConfig = Annotated[HostTransport, Field(description="How the device is reached.")]
