"""``edgeward::gated_scan`` (SSD): as LinearAttention or as Scan; `edgeward.runtimes.program` writes it in matrix products."""

from __future__ import annotations

import numpy as np
import onnx
from onnx import helper

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


def scan(site: Site) -> None:
    """Write one Scan over time, with time as the first axis."""
    length, values = site.shapes[site.node.input[2]][1:]
    groups = site.attributes["groups"]
    each = site.attributes["heads"] // groups
    time_first = [1, 0, 2, 3, 4]  # (t, b, groups, heads of a group or 1, size)
    slabs = {}
    for name, source, axis in zip("qkvg", site.node.input, (4, 5, 4, 5), strict=True):
        heads = 1 if name in "qk" else each
        shape = site.constant(f"{name}_shape", np.array([0, length, groups, heads, -1]))
        apart = site.add("Reshape", [source, shape], f"{name}_apart")
        moved = site.add("Transpose", [apart], f"{name}_heads", perm=time_first)
        axes = site.constant(f"axis{axis}", np.array([axis]))
        slabs[name] = site.add("Unsqueeze", [moved, axes], f"{name}_slab")
    first = site.constant("first", np.array(0))
    outer = {
        name: site.add("Gather", [slabs[name], first], f"{name}_first", axis=0)
        for name in ("k", "v")
    }
    product = site.add("Mul", [outer["k"], outer["v"]], "like_state")
    start = site.zeros(site.add("Shape", [product], "state_shape"), "start")
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
    output = site.node.output[0]
    turned = site.add("Transpose", [flat], f"{output}_turned", perm=time_first)
    whole = site.constant(f"{output}_shape", np.array([0, -1, values]))
    site.add("Reshape", [turned, whole], output)


FORMS = {"linear_attention": linear_attention, "opset27": opset27, "scan": scan}
