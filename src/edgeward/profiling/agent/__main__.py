"""Entry point: one request in, one answer out."""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Callable
from typing import Any

from edgeward.runtimes.agent import AgentError

from .ceilings import ceilings
from .decide import decide
from .describe import describe
from .energy import energy
from .interleave import interleave
from .kernels import kernels
from .operators import operators
from .sustain import sustain
from .timing import cold, measure

TASKS: dict[str, Callable[[dict[str, Any]], dict[str, Any]]] = {
    "describe": describe,
    "time": measure,
    "cold": cold,
    "decide": decide,
    "operators": operators,
    "interleave": interleave,
    "energy": energy,
    "sustain": sustain,
    "ceilings": ceilings,
    "kernels": kernels,
}


def main() -> int:
    """Answer the request on standard input; the exit status is 0 exactly if the answer is ok."""
    answer_to = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)  # whatever a library prints must not end up inside the answer
    request = json.load(sys.stdin)
    try:
        answer = {"ok": True, **TASKS[request["task"]](request)}
    except AgentError as error:
        answer = {"ok": False, "kind": error.kind, "message": str(error)}
    except ImportError as error:  # numpy, or a part of the engine
        message = f"{error.name} cannot be imported: {error}."
        answer = {"ok": False, "kind": "engine", "message": message}
    json.dump(answer, answer_to)
    answer_to.close()
    return 0 if answer["ok"] else 1


if __name__ == "__main__":
    sys.exit(main())
