"""Placement of quantize/dequantize pairs, and that onnxruntime fuses what they enclose."""

from __future__ import annotations

import copy
from pathlib import Path

import numpy as np
import pytest
import torch
from compression_nets import (
    EXAMPLE,
    Attention,
    Gated,
    Residual,
    Tokens,
    annotated,
    executed,
    node_named,
    onnx_of,
    placement,
    run,
    session,
)
from hypothesis import given, settings
from hypothesis import strategies as st
from refusals import naming
from torch import nn
from torchao.quantization.pt2e import PerChannelMinMaxObserver
from torchao.quantization.pt2e.quantize_pt2e import convert_pt2e, prepare_pt2e
from torchao.quantization.pt2e.quantizer import SharedQuantizationSpec

from edgeward.compression import bias
from edgeward.compression.backend import float_layers, quantized_parameters
from edgeward.compression.numerics import BIAS_LIMIT, quantize_biases
from edgeward.compression.schemes import MeanMinMaxObserver, ptq_specs, weight_range
from edgeward.core.errors import UserError
from edgeward.models.program import export_program
from edgeward.runtimes.onnxruntime.quantizer import OnnxRuntimeQuantizer
from edgeward.runtimes.quantizer import ANNOTATION


def quantized(net: nn.Module, images: torch.Tensor) -> torch.fx.GraphModule:
    graph = export_program(net.eval(), EXAMPLE).module()
    quantizer = OnnxRuntimeQuantizer(
        *ptq_specs("minmax", OnnxRuntimeQuantizer.saturates()), keep_float=()
    )
    prepared = prepare_pt2e(graph, quantizer)
    with torch.no_grad():
        prepared(images)
    converted = convert_pt2e(prepared, fold_quantize=True)
    quantize_biases(converted)
    return converted


def test_a_relu_behind_a_layer_takes_its_output_pair() -> None:
    found = placement(annotated(Residual()))
    # Input and weight at the layer, output at the ReLU or at the layer if there is none.
    assert found["conv2d"] == (2, False)
    assert found["relu"] == (0, True)
    assert found["conv2d_1"] == (2, False)
    assert found["relu_1"] == (0, True)
    assert found["conv2d_2"] == (2, True)


def test_a_sum_is_quantized_on_both_sides_and_behind_its_relu() -> None:
    found = placement(annotated(Residual()))
    assert found["add"] == (2, False)
    assert found["relu_2"] == (0, True)


def test_logits_leave_in_float() -> None:
    assert placement(annotated(Residual()))["linear"] == (2, False)


def test_normalisation_stays_float() -> None:
    found = placement(annotated(Residual()))
    assert "mul" not in found
    assert "sub" not in found


def test_max_pool_keeps_the_scale_of_its_input() -> None:
    graph = annotated(Residual())
    pool = node_named(graph, "max_pool2d")
    spec = pool.meta[ANNOTATION].output_qspec
    assert isinstance(spec, SharedQuantizationSpec)
    assert spec.edge_or_node == (pool.args[0], pool)


def test_weights_are_per_output_channel_also_depthwise() -> None:
    graph = annotated(Residual())
    for name in ("conv2d_1", "linear"):
        node = node_named(graph, name)
        spec = node.meta[ANNOTATION].input_qspec_map[node.args[1]]
        assert (spec.dtype, spec.ch_axis) == (torch.int8, 0)
        assert (spec.quant_min, spec.quant_max) == (-127, 127)


def test_float_activations_and_gates() -> None:
    found = placement(annotated(Gated()))
    assert not {"silu", "gelu", "mean"} & set(found)
    assert found["conv2d"] == (2, True)
    assert found["conv2d_2"] == (2, True)
    assert found["mul"] == (2, True)


def test_nothing_next_to_a_softmax_is_quantized() -> None:
    found = placement(annotated(Attention()))
    talking = {"conv2d_2", "conv2d_3"}
    assert not talking & set(found)
    assert not any(name.startswith(("matmul", "softmax")) for name in found)
    # What is further away is.
    assert found["conv2d_1"] == (2, True)
    assert found["conv2d_4"] == (2, True)


def test_a_residual_stream_under_layer_norms_stays_float() -> None:
    found = placement(annotated(Tokens()))
    # On tokens, the integer product gives floats by itself.
    assert found == {
        "conv2d": (2, True),
        "linear": (2, False),
        "linear_1": (2, False),
        "linear_2": (2, False),
    }


@pytest.mark.parametrize(
    ("name", "layers"), [("depthwise", {"conv2d_1"}), ("fc", {"linear"}), ("stem", {"conv2d"})]
)
def test_kept_modules_stay_float_and_no_others(name: str, layers: set[str]) -> None:
    everything = placement(annotated(Residual()))
    kept = placement(annotated(Residual(), keep_float=(name,)))
    weighted = {"conv2d", "conv2d_1", "conv2d_2", "linear"}
    assert (set(everything) - set(kept)) & weighted == layers


def test_a_kept_block_keeps_all_that_it_holds() -> None:
    net = nn.Sequential(nn.Conv2d(3, 4, 1), nn.Sequential(nn.Conv2d(4, 4, 1), nn.Conv2d(4, 4, 1)))
    assert set(placement(annotated(net, keep_float=("1",)))) == {"conv2d"}


def test_an_unknown_name_to_keep_names_the_nearest() -> None:
    with pytest.raises(
        UserError, match=naming("'depthwize'", "'depthwise'", "compress.steps[..].keep_float")
    ):
        annotated(Residual(), keep_float=("depthwize",))


@pytest.mark.parametrize(
    ("net", "expected"),
    [
        (Residual, {"QLinearConv": 3, "QLinearAdd": 1, "QGemm": 1}),
        (Gated, {"QLinearConv": 3, "QLinearMul": 1, "QGemm": 1}),
        (Tokens, {"QLinearConv": 1, "MatMulIntegerToFloat": 2, "QGemm": 1, "QLinearAdd": 0}),
        (Attention, {"QLinearConv": 3, "QLinearAdd": 1, "QGemm": 1, "Conv": 2, "Softmax": 1}),
    ],
)
def test_onnxruntime_fuses_and_computes_what_the_graph_says(
    net: type[nn.Module], expected: dict[str, int], tmp_path: Path
) -> None:
    torch.manual_seed(0)
    images = torch.rand(64, 3, 16, 16) * 255
    module = net().eval()
    converted = quantized(module, images)
    path = onnx_of(export_program(converted, EXAMPLE), EXAMPLE, tmp_path / "net.onnx")
    found = executed(path)
    assert {name: found.get(name, 0) for name in expected} == expected
    assert "QLinearSoftmax" not in found
    with torch.no_grad():
        simulated, exact = converted(images).numpy(), module(images).numpy()
    fused = run(session(path), images.numpy())
    unfused = run(session(path, optimise=False), images.numpy())
    # One rounding step of one activation may fall the other way, no more.
    assert abs(fused - simulated).mean() < 2e-3 * exact.std()
    assert abs(fused - unfused).mean() < 2e-3 * exact.std()
    assert 0 < abs(simulated - exact).mean() < 0.05 * exact.std()
    assert run(session(path), images[:1].numpy()).shape == (1, 3)


def test_every_parameter_but_the_talking_heads_is_an_integer() -> None:
    torch.manual_seed(0)
    net = Attention()
    converted = quantized(net, torch.rand(8, 3, 16, 16) * 255)
    weighted = sum(
        p.numel()
        for n, p in net.named_parameters()
        if not n.startswith(("before", "after", "bias"))
    )
    assert quantized_parameters(converted) == weighted
    assert float_layers(converted) == ["after", "before"]


@pytest.mark.parametrize("reduce_range", [False, True])
def test_weight_scales_have_their_closed_form(reduce_range: bool) -> None:
    low, high = weight_range(reduce_range)
    assert (low, high) == ((-64, 64) if reduce_range else (-127, 127))
    _, spec = ptq_specs("minmax", reduce_range)
    observer = spec.observer_or_fake_quant_ctr(
        dtype=spec.dtype,
        quant_min=spec.quant_min,
        quant_max=spec.quant_max,
        qscheme=spec.qscheme,
        ch_axis=spec.ch_axis,
    )
    assert isinstance(observer, PerChannelMinMaxObserver)
    weight = torch.tensor([[1.0, -2.0], [0.5, 0.25]])
    observer(weight)
    scale, zero_point = observer.calculate_qparams()
    torch.testing.assert_close(scale, weight.abs().amax(1) / high)
    assert not zero_point.any()


@given(
    st.lists(
        st.lists(st.floats(-1e3, 1e3, width=32), min_size=6, max_size=6), min_size=1, max_size=9
    ),
    st.integers(1, 9),
)
def test_the_mean_range_is_that_of_the_images_however_they_are_batched(
    rows: list[list[float]], batch: int
) -> None:
    images = torch.tensor(rows).reshape(-1, 2, 3)
    observer = MeanMinMaxObserver(dtype=torch.uint8, qscheme=torch.per_tensor_affine)
    for start in range(0, len(images), batch):
        given = images[start : start + batch]
        assert observer(given) is given
    expected = np.array(rows).min(1).mean(), np.array(rows).max(1).mean()
    found = float(observer.min_val), float(observer.max_val)
    np.testing.assert_allclose(found, expected, rtol=1e-4, atol=1e-2)


@settings(max_examples=10, deadline=None)
@given(
    bias=st.lists(st.floats(-50, 50, width=32), min_size=3, max_size=3),
    small=st.sampled_from([1.0, 1e-3, 1e-6, 1e-9]),
)
def test_biases_move_by_half_a_unit_at_most(bias: list[float], small: float) -> None:
    torch.manual_seed(0)
    net = nn.Sequential(nn.Conv2d(3, 3, 1))
    with torch.no_grad():
        net[0].weight.mul_(torch.tensor([1.0, small, 1.0]).view(3, 1, 1, 1))
        net[0].bias.copy_(torch.tensor(bias))
    converted = quantized(net, torch.rand(4, 3, 16, 16) * 255)
    layer = next(n for n in converted.graph.nodes if n.target is torch.ops.aten.conv2d.default)
    source, weight, held = layer.args[:3]
    integers, scale = (converted.get_buffer(part.target) for part in held.args[:2])
    assert integers.dtype == torch.int32
    assert (integers.abs() <= BIAS_LIMIT + 1).all()
    unit = converted.get_buffer(weight.args[1].target) * source.args[1]
    torch.testing.assert_close(scale, unit)
    error = (integers.double() * scale.double() - torch.tensor(bias).double()).abs()
    assert (error <= 0.5 * scale + 1e-6 * torch.tensor(bias).abs()).all()


class Shapes(nn.Module):
    """Convolutions whose integer kernels are fast, and some whose are not."""

    def __init__(self, dims: int) -> None:
        super().__init__()
        conv = {2: nn.Conv2d, 3: nn.Conv3d}[dims]
        self.first = conv(3, 8, 3, padding=1)
        self.small = conv(8, 8, 3, padding=1, groups=8)
        self.large = conv(8, 8, 5, padding=2, groups=8)
        self.grouped = conv(8, 4, 3, padding=1, groups=4)
        self.pair = conv(4, 2, 1)
        self.few = conv(2, 4, 3, padding=1)
        self.joined = conv(8, 3, 1)

    def forward(self, image: torch.Tensor) -> torch.Tensor:
        x = self.grouped(self.large(self.small(self.first(image / 64 - 2))))
        return self.joined(torch.cat([x, self.few(self.pair(x))], 1))


def test_a_depthwise_convolution_with_several_outputs_per_channel_stays_float() -> None:
    net = nn.Sequential(
        nn.Conv2d(3, 8, 3), nn.Conv2d(8, 16, 3, groups=8), nn.Conv2d(16, 16, 3, groups=16),
        nn.Conv2d(16, 4, 1),
    )  # fmt: skip
    graph = export_program(net.eval(), torch.full((2, 3, 16, 16), 128.0)).module()
    quantizer = OnnxRuntimeQuantizer(*ptq_specs("minmax", False), keep_float=())
    assert set(placement(quantizer.annotate(graph))) == {"conv2d", "conv2d_2", "conv2d_3"}


@pytest.mark.parametrize("dims", [2, 3])
def test_convolutions_that_are_slower_in_int8_stay_float(dims: int) -> None:
    image = torch.full((2, 3, *[8] * dims), 128.0)
    graph = export_program(Shapes(dims).eval(), image).module()
    quantizer = OnnxRuntimeQuantizer(*ptq_specs("minmax", False), keep_float=())
    found = placement(quantizer.annotate(graph))
    name = f"conv{dims}d"
    expected = {
        f"{name}_1": (2, True),
        f"{name}_4": (2, True),
        f"{name}_6": (2, False),  # the logits
        "cat": (2, True),
    }
    if dims == 2:
        expected |= {name: (2, True), f"{name}_2": (2, True)}
    assert found == expected


def test_corrected_biases_keep_the_mean_of_every_channel() -> None:
    """Against the float network's own layers; before the correction rounding has moved them."""
    torch.manual_seed(0)
    net, images = Residual().eval(), torch.randn(32, *EXAMPLE.shape[1:])
    graph = export_program(net, EXAMPLE).module()
    prepared = prepare_pt2e(
        copy.deepcopy(graph),
        OnnxRuntimeQuantizer(*ptq_specs("minmax", reduce_range=True), keep_float=()),
    )
    prepared(images)
    converted = convert_pt2e(prepared, fold_quantize=True)

    def means(of: torch.fx.GraphModule) -> dict[str, torch.Tensor]:
        seen = bias._Means(of)
        with torch.no_grad():
            seen.run(images)
        return seen.found

    exact, before = means(graph), means(converted)
    assert bias.correct(converted, graph, images) == len(exact)
    after = means(converted)
    for name, expected in exact.items():
        assert (before[name] - expected).abs().max() > 1e-4, name
        torch.testing.assert_close(after[name], expected, atol=1e-5, rtol=0)
