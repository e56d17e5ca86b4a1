"""A model on a device as a session: what it answers to images there, for `edgeward.safety`."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import numpy as np

from edgeward.core.errors import UserError
from edgeward.core.io import sha256
from edgeward.profiling.config import DeviceConfig
from edgeward.profiling.parity import decode, encode
from edgeward.profiling.transport import Device
from edgeward.runtimes.base import Session
from edgeward.runtimes.graph import read_graph

REQUEST = 24_000_000  # bytes of images in a request; each takes a fresh process there, which imports the engine
BATCH = 1  # as at the bedside


class DeviceSession(Session):
    """A shipped file on an open device, one image at a time.

    Attributes
    ----------
    batch : images of a request that is neither too large to send nor so small that starting a process is most of it.
    """

    def __init__(self, cfg: DeviceConfig, device: Device, model: Path) -> None:
        facts = read_graph(cfg.engine.name, model, BATCH)
        self.shape = tuple(facts.input_shape[1:])
        self.engine = (cfg.engine.name, "")
        self.batch = max(1, REQUEST // int(np.prod(self.shape)))
        self._metadata, self._device = facts.metadata, device
        self._request = {
            "task": "decide",
            "model": str(model.resolve()),
            "sha256": sha256(model),
            "engine": cfg.engine.model_dump(),
            "affinity": cfg.affinity,
            "threads": cfg.first_threads,
            "batch": BATCH,
        }

    def run(self, images: np.ndarray) -> np.ndarray:
        """Return the logits of images in the plane, float32 (b, c, h, w) of whole numbers 0-255."""
        sent = images.astype(np.uint8)
        if not np.array_equal(sent, images):
            raise UserError(
                f"device '{self._device.cfg.name}' decides on images of whole grey levels; volumes and resampled images "
                "cannot be sent. Leave the device out of decide_on (config/sweeps/)."
            )
        answer = self._device.ask({**self._request, "inputs": encode(sent)})
        self.engine = (answer["engine"]["name"], answer["engine"]["version"])
        return decode(answer["logits"]).astype(np.float32)

    def metadata(self) -> Mapping[str, str]:
        return self._metadata
