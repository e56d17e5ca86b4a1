"""``edgeward::selective_scan`` (S6): as one standard ``Scan`` node.

The time axis comes first, so each step of Scan reads and writes contiguous slabs that hold all
directions, images and channels. Its body is six nodes.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import onnx
from onnx import helper

from edgeward.export.config import RecurrenceConfig
from edgeward.export.lowering import DOMAIN, Site

TORCH_OP = "selective_scan"
ATTRIBUTES = ()
INPUTS = ("u", "dt", "a", "b", "c")


def schema() -> onnx.defs.OpSchema:
    make = onnx.defs.OpSchema
    return make(
        "SelectiveScan",
        DOMAIN,
        1,
        inputs=[make.FormalParameter(name, "T") for name in INPUTS],
        outputs=[make.FormalParameter(name, "T") for name in ("y", "starts")],
        type_constraints=[("T", ["tensor(float)"], "")],
    )


def lower(site: Site, cfg: RecurrenceConfig) -> None:  # noqa: ARG001 - one form serves every engine
    scan(site)


class _Slabs:
    """The inputs of a site with their axes aligned: a step is (K, batch, N, D) where N or D is 1."""

    def __init__(self, site: Site) -> None:
        u, dt, a, b, c = site.node.input
        self.length = site.shapes[dt][0]
        self.directions, self.states, self.channels = site.shapes[a]
        self.a = self._unsqueeze(site, a, 1)
        self.dt = self._unsqueeze(site, dt, 3)
        self.v = self._unsqueeze(site, site.add("Mul", [dt, u], "dtu"), 3)
        self.b = self._unsqueeze(site, b, 4)
        self.c = self._unsqueeze(site, c, 3)
        batch = site.add("Shape", [dt], "batch", start=2, end=3)
        parts = [
            site.constant("directions", np.array([self.directions])),
            batch,
            site.constant("sizes", np.array([self.states, self.channels])),
        ]
        shape = site.add("Concat", parts, "state_shape", axis=0)
        zero = helper.make_tensor("value", onnx.TensorProto.FLOAT, [1], [0.0])
        self.state = site.add("ConstantOfShape", [shape], "state", value=zero)

    @staticmethod
    def _unsqueeze(site: Site, value: str, axis: int) -> str:
        axes = site.constant(f"axis{axis}", np.array([axis]))
        return site.add("Unsqueeze", [value, axes], f"{value}_slab")


def _step(prefix: str, a: str, state: str, slabs: Sequence[str]) -> list[onnx.NodeProto]:
    """Return the six nodes of one step from its dt, dt u, B and C.

    They write ``{prefix}.h``, the state, and ``{prefix}.y``.
    """
    dt, v, b, c = slabs

    def node(operator: str, inputs: list[str], output: str) -> onnx.NodeProto:
        name = f"{prefix}.{output}"
        return helper.make_node(operator, inputs, [name], name=name)

    return [
        node("Mul", [dt, a], "rate"),
        node("Exp", [f"{prefix}.rate"], "decay"),
        node("Mul", [f"{prefix}.decay", state], "kept"),
        node("Mul", [b, v], "added"),
        node("Add", [f"{prefix}.kept", f"{prefix}.added"], "h"),
        node("MatMul", [c, f"{prefix}.h"], "y"),
    ]


def scan(site: Site) -> None:
    """Write one Scan over time."""
    slabs = _Slabs(site)
    k, n, d = slabs.directions, slabs.states, slabs.channels
    prefix = site.name("step")

    def value(name: str, last: tuple[int, int]) -> onnx.ValueInfoProto:
        shape = [k, None, *last]
        return helper.make_tensor_value_info(f"{prefix}.{name}", onnx.TensorProto.FLOAT, shape)

    steps = {"dt": (1, d), "v": (1, d), "b": (n, 1), "c": (1, n)}
    body = helper.make_graph(
        _step(prefix, slabs.a, f"{prefix}.state", [f"{prefix}.{name}" for name in steps]),
        prefix,
        [value("state", (n, d)), *(value(name, last) for name, last in steps.items())],
        [value("h", (n, d)), value("y", (1, d))],
    )
    inputs = [slabs.state, slabs.dt, slabs.v, slabs.b, slabs.c]
    site.add("Scan", inputs, ["last", "y_slab"], body=body, num_scan_inputs=4)
    axis = site.constant("axis3", np.array([3]))
    site.add("Squeeze", [site.name("y_slab"), axis], site.node.output[0])


def unrolled(site: Site) -> None:
    """Write the nodes of every step one after another, as tracing a Python loop does.

    For the benchmark only: what exporters make of the recurrence without Scan.
    """
    slabs = _Slabs(site)
    parts = {"dt": slabs.dt, "v": slabs.v, "b": slabs.b, "c": slabs.c}
    state, outputs = slabs.state, []
    first = site.constant("axis0", np.array([0]))
    for t in range(slabs.length):
        index = site.constant(f"t{t}", np.array(t))
        step = [site.add("Gather", [slab, index], f"{t}.{name}") for name, slab in parts.items()]
        prefix = site.name(str(t))
        site.nodes += _step(prefix, slabs.a, state, step)
        state = f"{prefix}.h"
        outputs.append(site.add("Unsqueeze", [f"{prefix}.y", first], f"{t}.out"))
    stacked = site.add("Concat", outputs, "y_slab", axis=0)
    axis = site.constant("axis3", np.array([3]))
    site.add("Squeeze", [stacked, axis], site.node.output[0])
