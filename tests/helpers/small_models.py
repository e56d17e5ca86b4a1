"""ONNX models made by hand."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

from edgeward.core.io import digest
from edgeward.data.store import Prepared

SHIFT = [0.2, -0.1, 0.4]
ORGAN, SPOT = 180, 10  # grey levels


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


def write_blurring(
    path: Path, data: Prepared, size: tuple[int, ...], sharpness: float = 0.01, **changes: Any
) -> Path:
    """Write a network that blurs, then measures each voxel's distance from three grey levels.

    ``logit = -sharpness (grey - level)^2``, less the common term: an affine map of the grey level.
    """
    dims, channels = len(size), data.images.shape[-1] if data.volumes is None else 1
    blur = np.full((1, channels, *[3] * dims), 0.2 / (channels * 3**dims), np.float32)
    centre: tuple[slice | int, ...] = (slice(None), slice(None), *[1] * dims)
    blur[centre] += 0.8 / channels
    levels = np.array([90.0, ORGAN, SPOT], np.float32)
    weight = (2 * sharpness * levels).reshape(3, 1, *[1] * dims).astype(np.float32)
    bias = (-sharpness * levels**2).astype(np.float32)
    nodes = [
        helper.make_node("Conv", ["image", "blur"], ["grey"], pads=[1] * 2 * dims),
        helper.make_node("Conv", ["grey", "weight", "bias"], ["logits"]),
    ]
    graph = helper.make_graph(
        nodes,
        "net",
        [helper.make_tensor_value_info("image", TensorProto.FLOAT, ["n", channels, *size])],
        [helper.make_tensor_value_info("logits", TensorProto.FLOAT, ["n", 3, *size])],
        [
            numpy_helper.from_array(value, name)
            for name, value in (("blur", blur), ("weight", weight), ("bias", bias))
        ],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=10)
    facts = {
        "task": "segmentation",
        "classes": data.classes,
        "data": data.card.name,
        "data_sha256": digest(data.card.hashes),
        "image_size": list(size),
        "logit_shift": [0.0, 0.0, 0.0],
    }
    helper.set_model_props(model, {k: json.dumps(v) for k, v in (facts | changes).items()})
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(model.SerializeToString())
    return path
