"""ONNX models made by hand."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

from edgeward.core.io import digest
from edgeward.data.store import Prepared

SHIFT = [0.2, -0.1, 0.4]


def write_model(
    path: Path, prepared: Prepared, matrix: np.ndarray, bias: np.ndarray, **metadata: object
) -> Path:
    """Write an ONNX model: mean colour (0-255) times a matrix (3, c), plus a bias."""
    nodes = [
        helper.make_node("GlobalAveragePool", ["image"], ["pooled"]),
        helper.make_node("Flatten", ["pooled"], ["flat"]),
        helper.make_node("Gemm", ["flat", "matrix", "bias"], ["logits"]),
    ]
    size = prepared.images.shape[1]
    graph = helper.make_graph(
        nodes, "colour",
        [helper.make_tensor_value_info("image", TensorProto.FLOAT, ["batch", 3, size, size])],
        [helper.make_tensor_value_info("logits", TensorProto.FLOAT, ["batch", matrix.shape[1]])],
        [
            numpy_helper.from_array(matrix.astype(np.float32), "matrix"),
            numpy_helper.from_array(bias.astype(np.float32), "bias"),
        ],
    )  # fmt: skip
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 20)], ir_version=10)
    facts = {
        "task": "multiclass", "classes": prepared.classes, "data": "small",
        "data_sha256": digest(prepared.card.hashes),
        "image_size": [size, size], "logit_shift": SHIFT,
    } | metadata  # fmt: skip
    helper.set_model_props(model, {k: json.dumps(v) for k, v in facts.items()})
    onnx.save(model, path)
    return path
