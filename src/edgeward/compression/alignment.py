"""Decision borders of a compressed network put back to where the uncompressed one has them."""

from __future__ import annotations

import logging
from typing import Literal

import numpy as np
import torch
from torch import nn
from torch.export import ExportedProgram
from torch.fx import GraphModule, Node

from edgeward.compression.constraint.acceptance import logits_of
from edgeward.compression.numerics import calls
from edgeward.compression.workpiece import Workpiece
from edgeward.core.errors import UserError
from edgeward.models.program import export_program
from edgeward.runtimes.quantizer import tensor_at
from edgeward.statistics.alignment import call_shares, fit_offsets
from edgeward.statistics.decisions import decided

logger = logging.getLogger(__name__)
aten = torch.ops.aten
BIASED = {aten.linear.default, aten.conv2d.default}
SAME = {aten.dropout.default, aten.contiguous.default, aten.clone.default}


class Shifted(nn.Module):
    """A network with a constant added to each logit."""

    offsets: torch.Tensor

    def __init__(self, inner: nn.Module, offsets: torch.Tensor) -> None:
        super().__init__()
        self.inner = inner
        self.register_buffer("offsets", offsets)

    def forward(self, image: torch.Tensor) -> torch.Tensor:
        logits: torch.Tensor = self.inner(image) + self.offsets
        return logits


def align(
    piece: Workpiece,
    split: Literal["val", "calibration"],
    labels: bool,
    probabilities: Literal["kept", "moved"] = "kept",
) -> None:
    """Fit constants on a split, of the program if there is one, and put them into it; record what they change.

    The natural probabilities are the softmax (or sigmoid) of ``logits + logit_shift``; to keep them, what the logits gain is taken from `logit_shift`.

    Raises
    ------
    UserError
        If the split is empty.
    """
    data = piece.data
    indices = data.calibration if split == "calibration" else data.indices("val")
    if not len(indices):
        raise UserError(
            f"{data.root}: align_decisions is fitted on the images of '{split}', of which there are none; "
            "change split of the step, or data.split."
        )
    program = piece.program or export_program(piece.module, piece.example)
    graph = program.module()
    without_last_rounding(graph)
    exclusive, borders = piece.exclusive, piece.thresholds
    before = logits_of(piece.uncompressed, data, indices) - borders
    after = logits_of(graph, data, indices) - borders
    weights = balanced(data.labels[indices]) if labels else None
    wanted = call_shares(before, weights, exclusive=exclusive)
    offsets = fit_offsets(after, wanted, weights, exclusive=exclusive)
    piece.program, in_bias = shifted(graph, torch.from_numpy(offsets).float(), piece.example)
    if probabilities == "kept":
        kept = np.asarray(piece.meta.logit_shift) - offsets
        piece.meta = piece.meta.model_copy(update={"logit_shift": kept.tolist()})
    agreed, aligned = decided(before, exclusive), decided(after + offsets, exclusive)
    piece.effect = {
        "offsets": offsets.tolist(),
        "in_bias": in_bias,
        "split": split,
        "labels": labels,
        "probabilities": probabilities,
        "n": len(indices),
        "calls_reference": wanted.tolist(),
        "calls_before": call_shares(after, weights, exclusive=exclusive).tolist(),
        "calls": call_shares(after + offsets, weights, exclusive=exclusive).tolist(),
        "agreement_before": float(np.mean(decided(after, exclusive) == agreed)),
        "agreement": float(np.mean(aligned == agreed)),
    }
    piece.metrics["largest_offset"] = float(np.abs(offsets).max())
    logger.info("offsets of the logits: %s", " ".join(f"{x:+.3f}" for x in offsets))


def without_thresholds(piece: Workpiece) -> None:
    """Take the thresholds off the logits, if there are any, so that what ships calls a label where its logit is above 0.

    `logit_shift` takes them back, so that probabilities stay what they are.
    """
    if piece.meta.thresholds is None:
        return
    thresholds = piece.thresholds
    program = piece.program or export_program(piece.module, piece.example)
    offsets = torch.from_numpy(-thresholds).float()
    piece.program, in_bias = shifted(program.module(), offsets, piece.example)
    kept = np.asarray(piece.meta.logit_shift) + thresholds
    piece.meta = piece.meta.model_copy(update={"logit_shift": kept.tolist(), "thresholds": None})
    piece.found["thresholds"] = {"logits": thresholds.tolist(), "in_bias": in_bias}


def balanced(labels: np.ndarray) -> np.ndarray:
    """Return weights, float64 (n,), with which every class (of findings: every stratum) counts alike."""
    result: np.ndarray = 1.0 / np.bincount(labels)[labels]
    return result


def without_last_rounding(graph: GraphModule) -> None:
    """Let logits leave the graph as the last layer computes them, if they are rounded to 8 bits there.

    A constant that comes after the rounding would be an operator of its own; before it, it goes into the bias.
    """
    output = next(node for node in graph.graph.nodes if node.op == "output")
    (last,) = output.args[0]
    rounded = last.args[0] if calls(last, "dequantize_per_tensor") else None
    if isinstance(rounded, Node) and calls(rounded, "quantize_per_tensor"):
        last.replace_all_uses_with(rounded.args[0])
        graph.graph.eliminate_dead_code()
        graph.recompile()


def shifted(
    graph: GraphModule, offsets: torch.Tensor, example: torch.Tensor
) -> tuple[ExportedProgram, bool]:
    """Return a program whose logits have constants added, and whether these are in the bias of the last layer.

    Parameters
    ----------
    graph : changed in place. offsets : float32 (c,). example : as in `export_program`.
    """
    output = next(node for node in graph.graph.nodes if node.op == "output")
    (last,) = output.args[0]
    in_bias = _push(graph, last, offsets)
    return export_program(graph if in_bias else Shifted(graph, offsets), example), in_bias


def _push(graph: GraphModule, node: Node, offsets: torch.Tensor) -> bool:
    """Add to what a node computes by changing a bias before it; False, and nothing is changed, if there is none."""
    if not isinstance(node, Node) or len(node.users) > 1:
        return False
    if node.target in SAME:
        return _push(graph, node.args[0], offsets)
    if node.target is aten.add.Tensor and not node.kwargs:
        return any(_push(graph, part, offsets) for part in node.args if isinstance(part, Node))
    if node.target is aten.div.Tensor and isinstance(node.args[1], int | float):
        return _push(graph, node.args[0], offsets * node.args[1])
    if node.target is aten.mul.Tensor and isinstance(node.args[1], int | float):
        return node.args[1] != 0 and _push(graph, node.args[0], offsets / node.args[1])
    if node.target not in BIASED or len(node.args) < 3 or not isinstance(node.args[2], Node):
        return False
    bias = node.args[2]
    if len(bias.users) > 1:
        return False
    if bias.op == "get_attr":
        _add(graph, bias, offsets)
        return True
    if calls(bias, "dequantize_per_channel"):
        integers, scales = bias.args[0], tensor_at(graph, bias.args[1])
        _add(graph, integers, (offsets.double() / scales.double()).round())
        return True
    return False


def _add(graph: GraphModule, node: Node, change: torch.Tensor) -> None:
    tensor = tensor_at(graph, node)
    with torch.no_grad():
        tensor.copy_((tensor.double() + change.double()).to(tensor.dtype))
