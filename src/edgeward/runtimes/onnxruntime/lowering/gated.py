"""``edgeward::gated_scan`` (SSD): as LinearAttention, as matrix products, or as Scan."""

from __future__ import annotations

import numpy as np
import onnx
from onnx import helper

from edgeward.models.ssm.gated import chunk_length
from edgeward.runtimes.onnxruntime.config import RecurrenceConfig
from edgeward.runtimes.onnxruntime.lowering import DOMAIN, Site

TORCH_OP = "gated_scan"
ATTRIBUTES = ("heads", "groups")


def schema() -> onnx.defs.OpSchema:
    make = onnx.defs.OpSchema
    return make(
        "GatedScan",
        DOMAIN,
        1,
        inputs=[make.FormalParameter(name, "T") for name in ("q", "k", "v", "g")],
        outputs=[make.FormalParameter("o", "T")],
        type_constraints=[("T", ["tensor(float)", "tensor(double)"], "")],
        attributes=[make.Attribute(name, make.AttrType.INT, "") for name in ATTRIBUTES],
    )


def lower(site: Site, cfg: RecurrenceConfig) -> None:
    FORMS[cfg.gated](site)


def linear_attention(site: Site) -> None:
    """Write onnxruntime's fused operator; it shares queries and keys between heads by itself."""
    q, k = site.node.input[:2]
    _fused(site, q, k, site.attributes["groups"], "com.microsoft")


def opset27(site: Site) -> None:
    """Write the standard operator, whose heads have queries and keys of their own: they are repeated."""
    q, k = site.node.input[:2]
    heads, groups = site.attributes["heads"], site.attributes["groups"]
    if groups != heads:
        split = site.constant("split", np.array([0, 0, groups, 1, -1]))
        repeat = site.constant("repeat", np.array([1, 1, 1, heads // groups, 1]))
        merge = site.constant("merge", np.array([0, 0, -1]))
        for name, source in (("q", q), ("k", k)):
            parted = site.add("Reshape", [source, split], f"{name}_split")
            repeated = site.add("Expand", [parted, repeat], f"{name}_repeated")
            site.add("Reshape", [repeated, merge], f"{name}_heads")
        q, k = site.name("q_heads"), site.name("k_heads")
    _fused(site, q, k, heads, "")


def _fused(site: Site, q: str, k: str, q_heads: int, domain: str) -> None:
    _, _, v, g = site.node.input
    site.add(
        "LinearAttention",
        [q, k, v, "", g],
        [site.node.output[0], "state"],
        domain=domain,
        q_num_heads=q_heads,
        kv_num_heads=site.attributes["heads"],
        update_rule="gated",
        scale=1.0,
    )


class _Heads:
    """The inputs of a site with heads apart: (b, groups, heads of a group or 1, .., t, size)."""

    def __init__(self, site: Site) -> None:
        self.site = site
        self.q, self.k, self.v, self.g = site.node.input
        self.length, self.values = site.shapes[self.v][1:]
        self.heads, self.groups = site.attributes["heads"], site.attributes["groups"]
        self.each = self.heads // self.groups

    def split(self, source: str, name: str, steps: list[int], order: list[int]) -> str:
        """Reshape (b, t, c) to (b, *steps, groups, heads of a group, size) and transpose it."""
        each = 1 if name in ("q", "k") else self.each
        shape = self.site.constant(f"{name}_shape", np.array([0, *steps, self.groups, each, -1]))
        apart = self.site.add("Reshape", [source, shape], f"{name}_apart")
        return self.site.add("Transpose", [apart], f"{name}_heads", perm=order)

    def merge(self, source: str, order: list[int], output: str) -> str:
        """Undo `split` for the output: transpose to (b, *steps, groups, heads, p) and reshape."""
        turned = self.site.add("Transpose", [source], f"{output}_turned", perm=order)
        shape = self.site.constant(f"{output}_shape", np.array([0, -1, self.values]))
        return self.site.add("Reshape", [turned, shape], output)


def scan(site: Site) -> None:
    """Write one Scan over time, with time as the first axis."""
    parts = _Heads(site)
    order = [1, 0, 2, 3, 4]  # (t, b, groups, heads, size)
    slabs = {}
    for name, axis in (("q", 4), ("k", 5), ("v", 4), ("g", 5)):
        moved = parts.split(getattr(parts, name), name, [parts.length], order)
        axes = site.constant(f"axis{axis}", np.array([axis]))
        slabs[name] = site.add("Unsqueeze", [moved, axes], f"{name}_slab")
    first = site.constant("first", np.array(0))
    outer = {
        name: site.add("Gather", [slabs[name], first], f"{name}_first", axis=0)
        for name in ("k", "v")
    }
    product = site.add("Mul", [outer["k"], outer["v"]], "like_state")
    shape = site.add("Shape", [product], "state_shape")
    start = site.zeros(shape, "start")
    prefix = site.name("step")

    def node(operator: str, inputs: list[str], output: str) -> onnx.NodeProto:
        names = [f"{prefix}.{name}" for name in (*inputs, output)]
        return helper.make_node(operator, names[:-1], names[-1:], name=names[-1])

    def value(name: str) -> onnx.ValueInfoProto:
        kind = onnx.TensorProto.FLOAT
        return helper.make_tensor_value_info(f"{prefix}.{name}", kind, [None] * 5)

    body = helper.make_graph(
        [
            node("Exp", ["g"], "decay"),
            node("Mul", ["decay", "state"], "kept"),
            node("Mul", ["k", "v"], "added"),
            node("Add", ["kept", "added"], "next"),
            node("MatMul", ["q", "next"], "o"),
        ],
        prefix,
        [value(name) for name in ("state", "q", "k", "v", "g")],
        [value("next"), value("o")],
    )
    inputs = [start, *slabs.values()]
    site.add("Scan", inputs, ["last", "o_slab"], body=body, num_scan_inputs=4)
    flat = site.add(
        "Squeeze", [site.name("o_slab"), site.constant("axis4", np.array([4]))], "o_flat"
    )
    parts.merge(flat, [1, 0, 2, 3, 4], site.node.output[0])


def matmul(site: Site) -> None:
    """Write matrix products only: inside chunks, and once over the chunks (see `chunked`).

    Sums of decays are products with triangles of ones that add each segment by itself. Over the
    chunks the cost is quadratic in their number.
    """
    parts = _Heads(site)
    chunk = chunk_length(parts.length)
    count = -(-parts.length // chunk)
    pad = count * chunk - parts.length
    order = [0, 3, 4, 1, 2, 5]  # (b, groups, heads, chunks, chunk, size)
    part = {}
    for name in ("q", "k", "v", "g"):
        source = getattr(parts, name)
        if pad:
            ends = site.constant("pads", np.array([0, 0, 0, 0, pad, 0]))
            source = site.add("Pad", [source, ends], f"{name}_padded")
        part[name] = parts.split(source, name, [count, chunk], order)
    q, k, v, g = (part[name] for name in ("q", "k", "v", "g"))
    swap = [0, 1, 2, 3, 5, 4]
    row = site.add("Transpose", [g], "g_row", perm=swap)  # (.., 1, chunk)

    def mul(a: str, b: str, name: str) -> str:
        return site.add("Mul", [a, b], name)

    def dot(a: str, b: str, name: str) -> str:
        return site.add("MatMul", [a, b], name)

    def ones(name: str, array: np.ndarray) -> str:
        return site.constant(name, array.astype(np.float32))

    square = np.ones((chunk, chunk))
    upto, after = ones("upto", np.tril(square)), ones("after", np.tril(square, -1))
    sums = dot(mul(row, upto, "g_upto"), after, "g_sums")  # [i, j]: sum over (j, i]
    fade = mul(site.add("Exp", [sums], "fade_all"), upto, "fade")
    match = mul(dot(q, site.add("Transpose", [k], "k_row", perm=swap), "qk"), fade, "qk_faded")
    inside = dot(match, v, "inside")
    to_end = site.add("Exp", [dot(ones("ahead", np.triu(square, 1)), g, "g_to_end")], "to_end")
    faded = site.add("Transpose", [mul(k, to_end, "k_to_end")], "k_end_row", perm=swap)
    added = dot(faded, v, "added")  # (.., chunks, n, p)
    if count == 1:
        total = inside
    else:
        whole = site.add(
            "ReduceSum", [row, site.constant("axis5", np.array([5]))], "g_chunk", keepdims=0
        )
        whole = site.add("Transpose", [whole], "g_chunks", perm=[0, 1, 2, 4, 3])  # (.., 1, chunks)
        before = ones("before", np.tril(np.ones((count, count)), -1))
        between = dot(mul(whole, before, "chunks_before"), before, "chunk_sums")
        weight = mul(site.add("Exp", [between], "chunk_fade_all"), before, "chunk_fade")
        sizes = site.add("Shape", [added], "added_shape")
        flat_shape = site.constant("flat", np.array([0, 0, 0, 0, -1]))
        flat = site.add("Reshape", [added, flat_shape], "added_flat")
        found = site.add("Reshape", [dot(weight, flat, "found_flat"), sizes], "found")
        since = site.add("Exp", [dot(upto, g, "g_since")], "since")
        outside = dot(mul(q, since, "q_since"), found, "outside")
        total = site.add("Add", [inside, outside], "total")
    if pad:
        merged = parts.merge(total, [0, 3, 4, 1, 2, 5], "whole")
        bounds = [
            site.constant(name, np.array([n]))
            for name, n in (("zero", 0), ("end", parts.length), ("one", 1))
        ]
        site.add("Slice", [merged, bounds[0], bounds[1], bounds[2]], site.node.output[0])
    else:
        parts.merge(total, [0, 3, 4, 1, 2, 5], site.node.output[0])


FORMS = {"linear_attention": linear_attention, "opset27": opset27, "matmul": matmul, "scan": scan}
