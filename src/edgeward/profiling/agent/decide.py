"""Task ``decide``: what a model answers to given images; nothing is timed."""

from __future__ import annotations

from typing import Any

from edgeward.runtimes.agent import AgentError

from .engines import check_file, image_shape, load_engine, logits, thread_count


def decide(request: dict[str, Any]) -> dict[str, Any]:
    """Return the logits of the images in ``inputs``, and the engine that computed them."""
    engine = load_engine(request)
    check_file(request["model"], request["sha256"])
    session = engine.open(request["model"], thread_count(request), request["batch"])
    name, shape = image_shape(session, request["batch"])
    try:
        answers = logits(session, name, shape, request["inputs"])
    except AgentError:
        raise
    except Exception as error:
        raise AgentError("run", str(error)) from error
    return {"engine": {"name": engine.name, "version": engine.version}, "logits": answers}
