"""Which kernels execute, on which tensors, and how long each takes."""

from __future__ import annotations

from typing import Any

from .engines import check_file, image_shape, load_engine, random_image, thread_count


def operators(request: dict[str, Any]) -> dict[str, Any]:
    """Record the kernels of one inference: their tensors, how often each ran, and how long."""
    engine = load_engine(request)
    check_file(request["model"], request["sha256"])
    batch = request["batch"]

    def feed(session: Any) -> dict[str, Any]:
        name, shape = image_shape(session, batch)
        return {name: random_image(shape, request)}

    threads = thread_count(request)
    runs, kernels = engine.kernels(request["model"], threads, batch, feed, request["runs"])
    return {"threads": threads, "runs": runs, "kernels": kernels}
