"""``edgeward::selective_scan`` (S6): as standard ``Scan`` nodes.

The time axis comes first, so each step of Scan reads and writes contiguous slabs that hold all
directions, images and channels. Where a step is so small that the engine's overhead for each node
counts (`SMALL`), what does not depend on the state is computed for a chunk of steps at once, and a
Scan inside the Scan carries the state through the chunk: of the six nodes of a step, two are left.
On onnxruntime 1.31 that takes 0.7 to 0.8 of the time for states of 384 to 6144 values, as much at
9216, and 1.1 to 1.8 of it from 25,000 on, where the chunks no longer fit the cache.

Decays below exp(-87) are denormal numbers, which slow the elementwise nodes two to three times on
x86. They need step sizes of several units, far from where training starts; the session option
``session.set_denormal_as_zero`` avoids the slowdown.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import onnx
from onnx import helper

from edgeward.runtimes.onnxruntime.config import RecurrenceConfig
from edgeward.runtimes.onnxruntime.lowering import DOMAIN, Site

TORCH_OP = "selective_scan"
ATTRIBUTES = ()
SMALL = 8192  # values in the state of one image, K N D
CHUNK = 16  # steps computed at once, at most


def schema() -> onnx.defs.OpSchema:
    make = onnx.defs.OpSchema
    return make(
        "SelectiveScan",
        DOMAIN,
        1,
        inputs=[make.FormalParameter(name, "T") for name in ("u", "dt", "a", "b", "c")],
        outputs=[make.FormalParameter(name, "T") for name in ("y", "starts")],
        type_constraints=[("T", ["tensor(float)"], "")],
    )


def lower(site: Site, cfg: RecurrenceConfig) -> None:  # noqa: ARG001 - one form serves every engine
    length, _, _, _ = site.shapes[site.node.input[1]]
    chunk = chunk_length(length, int(np.prod(site.shapes[site.node.input[2]])))
    if chunk > 1:
        chunked_scan(site, chunk)
    else:
        scan(site)


def chunk_length(length: int, state: int) -> int:
    """Return how many of `length` steps to compute at once: the largest divisor up to `CHUNK`, or 1.

    Parameters
    ----------
    state : values in the state of one image.
    """
    if state > SMALL:
        return 1
    best = max(t for t in range(1, CHUNK + 1) if length % t == 0)
    return best if best >= CHUNK // 4 else 1


@dataclass
class _Recurrence:
    """Inputs of a site as slabs of ``[*lead, K, batch, N, D]`` in which N or D is 1 where it does not
    occur, and the state before the first step."""

    length: int
    k: int
    n: int
    d: int
    a: str
    state: str
    slabs: list[str]  # dt, dt u, B, C

    @classmethod
    def of(cls, site: Site, lead: Sequence[int]) -> _Recurrence:
        u, dt, a, b, c = site.node.input
        length, (k, n, d) = site.shapes[dt][0], site.shapes[a]

        def slab(value: str, name: str, last: tuple[int, int]) -> str:
            shape = site.constant(f"{name}_shape", np.array([*lead, k, -1, *last]))
            return site.add("Reshape", [value, shape], f"{name}_slab")

        slabs = [
            slab(dt, "dt", (1, d)),
            slab(site.add("Mul", [dt, u], "dtu"), "dtu", (1, d)),
            slab(b, "b", (n, 1)),
            slab(c, "c", (1, n)),
        ]
        rates = site.add("Unsqueeze", [a, site.constant("one", np.array([1]))], "rates")
        shape = [
            site.constant("k", np.array([k])),
            site.add("Shape", [dt], "batch", start=2, end=3),
            site.constant("nd", np.array([n, d])),
        ]
        state = site.zeros(site.add("Concat", shape, "state_shape", axis=0), "state")
        return cls(length, k, n, d, rates, state, slabs)

    def values(self, prefix: str, names: Sequence[str], lead: Sequence[int] = ()) -> list:
        """Return the types of body inputs and outputs; a name ends in what it is."""
        sizes = {"dt": (1, self.d), "dtu": (1, self.d), "b": (self.n, 1), "c": (1, self.n)}
        sizes["y"] = (1, self.d)
        return [
            helper.make_tensor_value_info(
                f"{prefix}.{name}",
                onnx.TensorProto.FLOAT,
                [*lead, self.k, None, *sizes.get(name, (self.n, self.d))],
            )
            for name in names
        ]

    def finish(self, site: Site, slab: str) -> None:
        shape = site.constant("y_shape", np.array([self.length, self.k, -1, self.d]))
        site.add("Reshape", [slab, shape], site.node.output[0])


def _node(prefix: str, operator: str, inputs: list[str], output: str) -> onnx.NodeProto:
    """Return a node; names that start with a dot are those of `prefix`."""
    full = [f"{prefix}{name}" if name.startswith(".") else name for name in inputs]
    return helper.make_node(operator, full, [f"{prefix}.{output}"], name=f"{prefix}.{output}")


def _step(prefix: str, a: str, state: str, slabs: Sequence[str]) -> list[onnx.NodeProto]:
    """Return the six nodes of one step; they write ``{prefix}.h``, the state, and ``{prefix}.y``."""
    dt, dtu, b, c = slabs
    return [
        _node(prefix, "Mul", [dt, a], "rate"),
        _node(prefix, "Exp", [".rate"], "decay"),
        _node(prefix, "Mul", [".decay", state], "kept"),
        _node(prefix, "Mul", [b, dtu], "added"),
        _node(prefix, "Add", [".kept", ".added"], "h"),
        _node(prefix, "MatMul", [c, ".h"], "y"),
    ]


def scan(site: Site) -> None:
    """Write one Scan, a step at a time."""
    r = _Recurrence.of(site, [site.shapes[site.node.input[1]][0]])
    prefix, names = site.name("step"), ("dt", "dtu", "b", "c")
    body = helper.make_graph(
        _step(prefix, r.a, ".state", [f".{name}" for name in names]),
        prefix,
        r.values(prefix, ("state", *names)),
        r.values(prefix, ("h", "y")),
    )
    site.add("Scan", [r.state, *r.slabs], ["last", "y_slab"], body=body, num_scan_inputs=4)
    r.finish(site, site.name("y_slab"))


def chunked_scan(site: Site, chunk: int) -> None:
    """Write a Scan over chunks, in which another carries the state from step to step."""
    lead = [site.shapes[site.node.input[1]][0] // chunk, chunk]
    r = _Recurrence.of(site, lead)
    prefix, names = site.name("chunk"), ("dt", "dtu", "b", "c")
    inner = f"{prefix}.step"
    carry = helper.make_graph(
        [
            _node(inner, "Mul", [".decay", ".state"], "kept"),
            _node(inner, "Add", [".kept", ".added"], "h"),
        ],
        inner,
        r.values(inner, ("state", "decay", "added")),
        r.values(inner, ("h", "kept")),
    )
    carried = [f"{prefix}.last", f"{prefix}.kept"]
    given = [f"{prefix}.state", f"{prefix}.decay", f"{prefix}.added"]
    body = helper.make_graph(
        [
            _node(prefix, "Mul", [".dt", r.a], "rate"),
            _node(prefix, "Exp", [".rate"], "decay"),
            _node(prefix, "Mul", [".b", ".dtu"], "added"),
            helper.make_node("Scan", given, carried, name=inner, body=carry, num_scan_inputs=2),
            _node(prefix, "Add", [".kept", ".added"], "h"),
            _node(prefix, "MatMul", [".c", ".h"], "y"),
        ],
        prefix,
        [*r.values(prefix, ("state",)), *r.values(prefix, names, [chunk])],
        [*r.values(prefix, ("last",)), *r.values(prefix, ("y",), [chunk])],
    )
    site.add("Scan", [r.state, *r.slabs], ["last", "y_slab"], body=body, num_scan_inputs=4)
    r.finish(site, site.name("y_slab"))


def unrolled(site: Site) -> None:
    """Write the nodes of every step one after another, as tracing a Python loop does.

    For the benchmark only: what exporters make of the recurrence without Scan.
    """
    length = site.shapes[site.node.input[1]][0]
    r = _Recurrence.of(site, [length])
    state, outputs = r.state, []
    first = site.constant("first", np.array([0]))
    for t in range(length):
        prefix, index = site.name(str(t)), site.constant(f"{t}.index", np.array(t))
        step = [site.add("Gather", [s, index], f"{t}.in{i}") for i, s in enumerate(r.slabs)]
        site.nodes += _step(prefix, r.a, state, step)
        state = f"{prefix}.h"
        outputs.append(site.add("Unsqueeze", [f"{prefix}.y", first], f"{t}.out"))
    r.finish(site, site.add("Concat", outputs, "y_slab", axis=0))
