"""The engine that is asked for, and what it is fed with."""

from __future__ import annotations

import base64
import hashlib
import os
from importlib import import_module
from pathlib import Path
from typing import Any

from edgeward.runtimes.agent import AgentError

from .conditions import cores


def load_engine(request: dict[str, Any]) -> Any:
    """Take the cores of ``request["affinity"]`` and import ``request["engine"]``.

    Raises
    ------
    AgentError
        If a core or the engine is missing, or a provider; names those that are there.
    """
    wanted = request.get("affinity")
    if wanted:
        if not hasattr(os, "sched_setaffinity"):
            raise AgentError("affinity", "this system cannot bind a process to cores")
        try:
            os.sched_setaffinity(0, wanted)
        except OSError as error:
            there = ", ".join(map(str, cores()))
            raise AgentError("affinity", f"cores {wanted}: {error} (usable: {there})") from error
    settings = request["engine"]
    return import_module("edgeward.runtimes.{}.agent".format(settings["name"])).Engine(settings)


def thread_count(request: dict[str, Any]) -> int:
    """Return the number of threads asked for; 0 means every core that the process may use."""
    return request["threads"] or len(cores())


def check_file(path: str, expected: str) -> None:
    """Compare a file's SHA-256 with `expected`; this also brings it into the page cache."""
    try:
        with Path(path).open("rb") as handle:
            digest = hashlib.sha256()
            while block := handle.read(1 << 20):
                digest.update(block)
    except OSError as error:
        raise AgentError("file", str(error)) from error
    if digest.hexdigest() != expected:
        raise AgentError("file", f"its SHA-256 is {digest.hexdigest()}, not {expected}")


def image_shape(session: Any, batch: int) -> tuple[str, list[int]]:
    """Return the name and the shape (batch, c, ...) of the one image or volume input of a session."""
    inputs = session.inputs
    if len(inputs) != 1 or inputs[0][1] != "tensor(float)" or len(inputs[0][2]) not in (4, 5):
        found = ", ".join(f"{name} {kind} {shape}" for name, kind, shape in inputs)
        raise AgentError(
            "input", f"one float32 image (batch, c, h, w) or volume expected, found: {found}"
        )
    name, _, shape = inputs[0]
    if any(side is None for side in shape[1:]):
        raise AgentError("input", f"only the batch may be dynamic, found {shape}")
    if shape[0] not in (None, batch):
        raise AgentError("input", f"the batch is fixed at {shape[0]}, but {batch} is asked for")
    return name, [batch, *shape[1:]]


def random_image(shape: list[int], request: dict[str, Any]) -> Any:
    """Return whole random numbers in ``request["input_range"]``, float32 of this shape."""
    import numpy as np

    low, high = request["input_range"]
    rng = np.random.default_rng(request["seed"])
    return rng.integers(low, high + 1, shape).astype(np.float32)


def logits(session: Any, name: str, shape: list[int], inputs: dict[str, Any]) -> Any:
    """Return the first output for given images, in batches of the size that the session takes.

    ``inputs`` is {"shape": [n, c, ...], "uint8": base64}; the last batch is filled up with the
    first images. The answer is {"shape": [n, ...], "float32": base64, little-endian}.
    """
    import numpy as np

    raw = np.frombuffer(base64.b64decode(inputs["uint8"]), dtype=np.uint8)
    images = raw.reshape(inputs["shape"])
    if list(images.shape[1:]) != shape[1:]:
        raise AgentError(
            "input", f"images of {images.shape[1:]} given, the model takes {shape[1:]}"
        )
    found = []
    for start in range(0, len(images), shape[0]):
        places = np.arange(start, start + shape[0]) % len(images)
        session.bind({name: images[places].astype(np.float32)})()
        found.append(session.outputs()[0])
    answers = np.concatenate(found)[: len(images)].astype("<f4")
    return {"shape": list(answers.shape), "float32": base64.b64encode(answers.tobytes()).decode()}
