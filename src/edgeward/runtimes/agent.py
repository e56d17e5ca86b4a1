"""What the agent on a device and the engines there share. Standard library only, Python 3.8.

`edgeward.profiling.bundle` copies this module, those of `edgeward.profiling.agent` and the module ``agent`` of one
runtime to the device. The latter has a class `Engine`, made from the settings in the device's YAML:

``name``, ``version``
    of the engine;
``on_gpu``
    whether an NVIDIA GPU computes, whose power only a counter of its own sees;
``available()``
    the execution providers or processors that are there;
``open(model, threads, batch, shared=False)``
    opens a file (path or bytes) as a session. With `shared` other sessions of the process run in turn with it. A model
    that the engine cannot load is an `AgentError` of the kind ``model``: it is recorded as refused, with the reason;
``kernels(model, threads, batch, feed, runs)``
    runs one inference on ``feed(session)``, the arrays by the inputs' names, `runs` times and once before them; returns
    the number of timed inferences, fewer if the engine's record would not hold them, and a list of the kernels:
    ``name, operator, provider`` (how it is computed), ``inputs`` and ``outputs`` ([type, shape], with the types of
    `TYPES`), ``weight_bytes`` (or None), ``calls`` (per inference), ``inside`` (name of the loop that runs it, or None),
    ``us`` (median time per inference; 0 for all where the engine tells none, with 0 timed inferences).

A session has

``inputs``
    name, type (``tensor(float)``) and shape of each input; a dynamic axis is None;
``providers``
    the execution providers or processors that started;
``bind(feed)``
    returns a function without arguments: one inference on these arrays, done when it returns;
``outputs()``
    the outputs of the latest inference, as arrays.
"""

from __future__ import annotations

# Type of a tensor -> bytes of an element.
TYPES = {
    "float": 4, "float16": 2, "bfloat16": 2, "double": 8, "bool": 1,
    "int8": 1, "uint8": 1, "int16": 2, "uint16": 2, "int32": 4, "uint32": 4, "int64": 8, "uint64": 8,
    "int4": 0.5, "uint4": 0.5, "float8e4m3fn": 1, "float8e5m2": 1,
}  # fmt: skip


class AgentError(Exception):
    """What went wrong on the device, and in which respect."""

    def __init__(self, kind: str, message: str) -> None:
        super().__init__(message)
        self.kind = kind
