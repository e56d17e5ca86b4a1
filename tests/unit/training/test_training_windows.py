"""Sliding windows against MONAI's, in numpy, torch and onnxruntime."""

from __future__ import annotations

import numpy as np
import onnxruntime as ort
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from monai.inferers import sliding_window_inference
from onnx import TensorProto, helper, numpy_helper
from torch import nn

from edgeward.core.windows import gaussian, sliding, starts


@given(st.integers(1, 200), st.integers(1, 64), st.floats(0, 0.95))
def test_windows_cover_an_axis_without_gaps(length: int, size: int, overlap: float) -> None:
    size = min(size, length)
    found = starts(length, size, overlap)
    assert found[0] == 0
    assert found[-1] == length - size
    steps = np.diff(found)
    assert (steps > 0).all()
    assert (steps <= max(1, size * (1 - overlap))).all()


def test_weights_are_highest_in_the_middle_and_positive() -> None:
    weight = gaussian((5, 8, 31))
    assert weight.shape == (5, 8, 31)
    assert weight.dtype == np.float32
    assert weight.min() == np.float32(1e-3)
    assert weight[2, 3, 15] == weight.max()
    np.testing.assert_array_equal(weight, weight[::-1, ::-1, ::-1])


def network(dims: int) -> nn.Module:
    """Convolutions whose zero padding makes every window's rim wrong."""
    torch.manual_seed(dims)
    conv = nn.Conv2d if dims == 2 else nn.Conv3d
    return nn.Sequential(conv(2, 4, 3, padding=1), nn.ReLU(), conv(4, 3, 3, padding=1)).eval()


CASES = [
    ((50, 41), (16, 24), 0.5, 3),
    ((20, 41), (32, 16), 0.25, 1),  # smaller than a window along one axis
    ((21, 18, 30), (16, 8, 16), 0.5, 4),
    ((9, 18, 16), (16, 16, 16), 0.6, 2),
    ((16, 16, 16), (16, 16, 16), 0.5, 2),
]


@pytest.mark.parametrize(("shape", "size", "overlap", "batch"), CASES)
def test_equal_to_monai(
    shape: tuple[int, ...], size: tuple[int, ...], overlap: float, batch: int
) -> None:
    net = network(len(shape))
    image = np.random.default_rng(0).uniform(0, 255, (2, *shape)).astype(np.float32)
    with torch.no_grad():
        expected = sliding_window_inference(
            torch.from_numpy(image[None]), size, 1, net, overlap=overlap, mode="gaussian"
        )[0].numpy()
        found = sliding(lambda w: net(torch.from_numpy(w)).numpy(), image, size, overlap, batch)
    np.testing.assert_allclose(found, expected, atol=2e-4, rtol=1e-5)


def test_onnxruntime_and_torch_agree() -> None:
    net = network(3)
    conv = [layer for layer in net if isinstance(layer, nn.Conv3d)]
    graph = helper.make_graph(
        [
            helper.make_node("Conv", ["x", "w0", "b0"], ["a"], pads=[1] * 6),
            helper.make_node("Relu", ["a"], ["b"]),
            helper.make_node("Conv", ["b", "w1", "b1"], ["y"], pads=[1] * 6),
        ],
        "net",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, ["n", 2, 16, 16, 16])],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, ["n", 3, 16, 16, 16])],
        [
            numpy_helper.from_array(value.detach().numpy(), f"{kind}{i}")
            for i, layer in enumerate(conv)
            for kind, value in (("w", layer.weight), ("b", layer.bias))
        ],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=10)
    session = ort.InferenceSession(model.SerializeToString(), providers=["CPUExecutionProvider"])
    image = np.random.default_rng(1).uniform(0, 255, (2, 20, 25, 16)).astype(np.float32)
    size = (16, 16, 16)
    with torch.no_grad():
        ours = sliding(lambda w: net(torch.from_numpy(w)).numpy(), image, size, 0.5, 4)
    theirs = sliding(lambda w: session.run(None, {"x": w})[0], image, size, 0.5, 1)
    np.testing.assert_allclose(theirs, ours, atol=2e-4, rtol=1e-5)
