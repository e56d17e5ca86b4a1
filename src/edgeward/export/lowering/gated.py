"""``edgeward::gated_scan`` (SSD): as LinearAttention, as matrix products, or as Scan."""

from __future__ import annotations

import onnx

from edgeward.export.config import RecurrenceConfig
from edgeward.export.lowering import DOMAIN, Site

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
    q, k, v, g = site.node.input
    site.add(
        "LinearAttention",
        [q, k, v, "", g],
        [site.node.output[0], "state"],
        domain="com.microsoft",
        q_num_heads=site.attributes["groups"],
        kv_num_heads=site.attributes["heads"],
        update_rule="gated",
        scale=1.0,
    )


FORMS = {"linear_attention": linear_attention}
