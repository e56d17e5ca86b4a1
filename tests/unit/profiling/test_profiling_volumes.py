"""Volumes and dense logits: counts in closed form, seeded volumes, a profile from end to end."""

from __future__ import annotations

import base64
import json
from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper
from profiling_models import host_quick
from refusals import naming

from edgeward.core.errors import UserError
from edgeward.profiling import parity
from edgeward.profiling.explain.kernels import Tensor, kernel_macs, tensor_bytes
from edgeward.profiling.stage import run
from edgeward.runtimes.onnxruntime.graph import read_graph
from edgeward.runtimes.onnxruntime.kernels import NAMES

SIDES = (8, 12, 10)
VOXELS, HALF = 8 * 12 * 10, 4 * 6 * 5
# strided 3x3x3 (1 > 8), depthwise 3x3x3, transposed 2x2x2 (8 > 4), pointwise to 3 labels
MACS = HALF * 8 * 27 + HALF * 8 * 27 + HALF * 8 * 4 * 8 + VOXELS * 4 * 3
PARAMETERS = 8 * 27 + 8 * 27 + 8 * 4 * 8 + 4 * 3


@pytest.fixture(scope="module")
def volume_model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A segmentation network of volumes, as an ONNX file made without torch."""
    rng = np.random.default_rng(0)

    def weight(name: str, *shape: int) -> TensorProto:
        return numpy_helper.from_array(rng.normal(0, 0.3, shape).astype(np.float32), name)

    ones = {"pads": [1] * 6}
    nodes = [
        helper.make_node("Conv", ["image", "w1"], ["c1"], strides=[2] * 3, **ones),
        helper.make_node("Relu", ["c1"], ["r1"]),
        helper.make_node("Conv", ["r1", "w2"], ["c2"], group=8, **ones),
        helper.make_node("ConvTranspose", ["c2", "w3"], ["c3"], strides=[2] * 3),
        helper.make_node("Conv", ["c3", "w4"], ["logits"]),
    ]
    image, logits = (
        helper.make_tensor_value_info(name, TensorProto.FLOAT, ["batch", channels, *SIDES])
        for name, channels in (("image", 1), ("logits", 3))
    )
    weights = [
        weight("w1", 8, 1, 3, 3, 3),
        weight("w2", 8, 1, 3, 3, 3),
        weight("w3", 8, 4, 2, 2, 2),
        weight("w4", 3, 4, 1, 1, 1),
    ]
    graph = helper.make_graph(nodes, "volumes", [image], [logits], weights)
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 20)], ir_version=10)
    onnx.checker.check_model(model, full_check=True)
    path = tmp_path_factory.mktemp("volumes") / "model.onnx"
    onnx.save(model, path)
    return path


@pytest.mark.parametrize("batch", [1, 3])
def test_counts_of_a_volume_are_those_of_its_layers(volume_model: Path, batch: int) -> None:
    facts = read_graph(volume_model, batch)
    assert facts.input_shape == [batch, 1, *SIDES]
    assert (facts.macs, facts.parameters) == (MACS, PARAMETERS)


def test_kernels_of_volumes_compute_and_move_what_their_shapes_say() -> None:
    data, weight = ["uint8", [1, 4, 5, 6, 8]], ["int8", [16, 1, 3, 3, 3]]
    scale = ["float", []]
    inputs: list[Tensor] = [data, scale, ["uint8", []], weight]
    out = ["uint8", [1, 4, 5, 6, 16]]  # channels last, as integer kernels have them
    assert kernel_macs("QLinearConv", inputs, [out], NAMES) == 4 * 5 * 6 * 16 * 27
    up = [["float", [1, 8, 4, 6, 5]], ["float", [8, 4, 2, 2, 2]]]
    full = ["float", [1, 4, *SIDES]]
    assert kernel_macs("ConvTranspose", up, [full], NAMES) == HALF * 8 * 4 * 8
    assert tensor_bytes("Conv", up, [full], NAMES) == 4 * (8 * HALF + 8 * 4 * 8 + 4 * VOXELS)


def test_volumes_are_seeded_varied_and_vary_along_every_axis() -> None:
    made = parity.images(4, (2, *SIDES), (0, 255), 3)
    assert made.shape == (4, 2, *SIDES)
    assert made.dtype == np.uint8
    np.testing.assert_array_equal(made, parity.images(4, (2, *SIDES), (0, 255), 3))
    assert made.reshape(4, -1).mean(1).std() > 1
    for axis in (2, 3, 4):  # coarse fields: neighbours are alike, opposite ends are not
        near = np.abs(np.diff(made.astype(float), axis=axis)).mean()
        ends = made.astype(float).take([0, -1], axis)
        assert near < np.abs(np.diff(ends, axis=axis)).mean()


def test_dense_logits_travel_from_the_agent_as_they_are() -> None:
    logits = np.random.default_rng(0).normal(size=(2, 3, 4, 5)).astype("<f4")
    encoded = {
        "shape": list(logits.shape),
        "float32": base64.b64encode(logits.tobytes()).decode(),
    }
    np.testing.assert_array_equal(parity.decode(encoded), logits)


def test_a_network_of_volumes_is_profiled_and_every_voxel_compared(
    volume_model: Path, tmp_path: Path
) -> None:
    short = {"min_duration_s": 0.02, "min_count": 5, "max_duration_s": 0.2}
    metrics = run(host_quick(**short), model=volume_model, out=tmp_path / "host_quick.json")
    profile = json.loads((tmp_path / "host_quick.json").read_text())
    assert profile["model"]["input_shape"] == [1, 1, *SIDES]
    assert profile["model"]["macs"] == MACS == metrics["macs"]
    setting = profile["settings"][0]
    assert setting["resolution"] == list(SIDES)
    assert setting["parity"]["passed"]
    assert setting["parity"]["max_abs"] < setting["parity"]["limit"]
    assert setting["parity"]["spread"] > 0


def test_an_input_of_one_axis_too_many_is_refused(tmp_path: Path) -> None:
    sides = ["batch", 1, 4, 4, 4, 4]
    values = [helper.make_tensor_value_info(n, TensorProto.FLOAT, sides) for n in ("image", "out")]
    graph = helper.make_graph(
        [helper.make_node("Relu", ["image"], ["out"])], "six", values[:1], values[1:]
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 20)], ir_version=10)
    onnx.save(model, tmp_path / "six.onnx")
    with pytest.raises(UserError, match=naming("six.onnx", "(batch, c, d, h, w)", "'image'")):
        read_graph(tmp_path / "six.onnx", 1)
