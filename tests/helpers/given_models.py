"""Finished ONNX files as others write them: classifiers by colour, laid down operator by operator."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper
from small_data import CLASSES

TINTS = np.array(
    [[200, 120, 100], [120, 200, 100], [100, 120, 200]], float
)  # of write_small_prepared
MEAN, STD = [0.485, 0.456, 0.406], [0.229, 0.224, 0.225]
TYPES: dict[Any, int] = {
    np.float32: TensorProto.FLOAT,
    np.float16: TensorProto.FLOAT16,
    np.uint8: TensorProto.UINT8,
}


def colour_classifier(
    path: Path,
    *,
    scale: Sequence[float] = (255 * np.array(STD)).tolist(),
    shift: Sequence[float] = (255 * np.array(MEAN)).tolist(),
    bgr: bool = False,
    nhwc: bool = False,
    dtype: type = np.float32,
    probabilities: bool = False,
    classes: Sequence[str] = CLASSES,
    batch: int | str = "N",
    batch_inside: bool = False,
    size: int | str = 32,
    names: tuple[str, str] = ("x", "y"),
    features: bool = False,
    favour: float = 0.0,
) -> Path:
    """Write a file that tells the classes of `write_small_prepared` by their mean colour.

    Parameters
    ----------
    scale, shift : input * scale + shift are grey levels 0-255, per channel in the order R, G, B.
    classes : in the order of the outputs. batch_inside : an operator holds the batch as a constant.
    features : a second output, of another shape. favour : added to the score of the first class.
    """
    order = [CLASSES.index(c) for c in classes]
    weight = 2 * TINTS[order] * np.array(scale) / 5000
    bias = ((2 * TINTS[order] * np.array(shift)).sum(1) - (TINTS[order] ** 2).sum(1)) / 5000
    bias[order.index(0)] += favour
    if bgr:
        weight = weight[:, ::-1]
    inner = np.float16 if dtype is np.float16 else np.float32
    constants = {
        "w": weight.T.astype(inner),
        "b": bias.astype(inner),
        "flat": np.array([batch if batch_inside else 0, 3], np.int64),
    }
    image, result = names
    nodes = []
    last = image
    if dtype is np.uint8:
        nodes.append(helper.make_node("Cast", [last], ["cast"], to=TensorProto.FLOAT))
        last = "cast"
    if nhwc:
        nodes.append(helper.make_node("Transpose", [last], ["nchw"], perm=[0, 3, 1, 2]))
        last = "nchw"
    nodes += [
        helper.make_node("GlobalAveragePool", [last], ["pooled"]),
        helper.make_node("Reshape", ["pooled", "flat"], ["vector"]),
        helper.make_node("Gemm", ["vector", "w", "b"], ["scores" if probabilities else result]),
    ]
    if probabilities:
        nodes.append(helper.make_node("Softmax", ["scores"], [result], axis=1))
    shape = [batch, size, size, 3] if nhwc else [batch, 3, size, size]
    kind = TYPES[inner]
    outputs = [helper.make_tensor_value_info(result, kind, [batch, len(classes)])]
    if features:
        outputs.insert(0, helper.make_tensor_value_info("vector", kind, [batch, 3]))
    graph = helper.make_graph(
        nodes,
        "colours",
        [helper.make_tensor_value_info(image, TYPES[dtype], shape)],
        outputs,
        [numpy_helper.from_array(value, name) for name, value in constants.items()],
    )
    model = helper.make_model(
        graph, opset_imports=[helper.make_opsetid("", 17)], producer_name="somebody"
    )
    model.ir_version = 8
    onnx.save(model, str(path))
    return path
