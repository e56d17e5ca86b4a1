"""Counts against hand counts, torch's own counter and published figures."""

from __future__ import annotations

from pathlib import Path

import onnx
import pytest
from onnx import TensorProto, helper
from profiling_models import MACS, PARAMETERS, SIZE, small_model
from refusals import naming

from edgeward.core.errors import UserError
from edgeward.runtimes.onnxruntime.graph import read_graph


def test_counts_of_a_model_counted_by_hand(fp32_model: Path) -> None:
    facts = read_graph(fp32_model, batch=1)
    assert facts.macs == MACS
    assert facts.parameters == PARAMETERS
    assert facts.precision == "fp32"
    assert facts.input_shape == [1, 3, SIZE, SIZE]
    assert facts.operators == {
        "Conv": 3,
        "Flatten": 1,
        "Gemm": 1,
        "GlobalAveragePool": 1,
        "Relu": 3,
    }
    assert facts.uncounted == []


def test_macs_are_per_image(fp32_model: Path) -> None:
    facts = read_graph(fp32_model, batch=4)
    assert facts.input_shape[0] == 4
    assert facts.macs == MACS


def test_quantising_keeps_macs_and_parameters(int8_model: Path) -> None:
    facts = read_graph(int8_model, batch=1)
    assert facts.precision == "int8"
    assert facts.macs == MACS
    assert facts.parameters == PARAMETERS
    assert facts.operators["DequantizeLinear"] > 0


def test_matrix_products_and_transposed_convolutions(tmp_path: Path) -> None:
    nodes = [
        helper.make_node("ConvTranspose", ["image", "wt"], ["up"], strides=[2, 2]),
        helper.make_node("Reshape", ["up", "to"], ["tokens"]),
        helper.make_node("Transpose", ["tokens"], ["turned"], perm=[0, 2, 1]),
        helper.make_node("MatMul", ["tokens", "turned"], ["logits"]),
    ]
    graph = helper.make_graph(
        nodes,
        "products",
        [helper.make_tensor_value_info("image", TensorProto.FLOAT, ["n", 3, 4, 4])],
        [helper.make_tensor_value_info("logits", TensorProto.FLOAT, ["n", 6, 6])],
        [
            helper.make_tensor("wt", TensorProto.FLOAT, [3, 6, 2, 2], [0.1] * 72),
            helper.make_tensor("to", TensorProto.INT64, [3], [0, 6, 64]),
        ],
    )
    path = tmp_path / "products.onnx"
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 20)], ir_version=10)
    onnx.save(model, path)
    facts = read_graph(path, batch=2)
    assert facts.macs == 4 * 4 * 3 * 6 * 2 * 2 + 6 * 6 * 64
    assert facts.parameters == 72


def test_unusable_files_are_named(tmp_path: Path, fp32_model: Path) -> None:
    broken = tmp_path / "broken.onnx"
    broken.write_bytes(fp32_model.read_bytes()[:1000])
    with pytest.raises(UserError, match=naming("broken.onnx", "onnx.ModelProto")):
        read_graph(broken, batch=1)
    with pytest.raises(UserError, match=naming("absent.onnx")):
        read_graph(tmp_path / "absent.onnx", batch=1)


def test_fixed_batch_and_dynamic_size_are_refused(tmp_path: Path) -> None:
    model = small_model()
    dims = model.graph.input[0].type.tensor_type.shape.dim
    dims[0].dim_value = 1
    onnx.save(model, tmp_path / "fixed.onnx")
    with pytest.raises(UserError, match=naming("fixed.onnx", 1, 2, "batch", "config/profile/")):
        read_graph(tmp_path / "fixed.onnx", batch=2)
    dims[2].dim_param = "height"
    onnx.save(model, tmp_path / "dynamic.onnx")
    with pytest.raises(UserError, match=naming("dynamic.onnx", "batch", "'image'")):
        read_graph(tmp_path / "dynamic.onnx", batch=1)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("name", "published"),
    # MobileOne (arXiv 2206.04040, table 8), ResNet (1512.03385, table 1: 1.8), MobileNetV3
    # (1905.02244, table 4), EfficientFormerV2 (2212.08059, table 3).
    [
        ("mobileone_s0", 275e6),
        ("resnet18", 1.8e9),
        ("mobilenetv3_small_100", 56e6),
        ("efficientformerv2_s0", 0.40e9),
    ],
)
def test_published_counts(name: str, published: float, tmp_path: Path) -> None:
    import timm
    import torch
    from timm.utils.model import reparameterize_model
    from torch.utils.flop_counter import FlopCounterMode

    net = reparameterize_model(timm.create_model(name, pretrained=False).eval())
    image = torch.rand(1, 3, 224, 224)
    path = tmp_path / "model.onnx"
    with torch.no_grad():
        torch.onnx.export(
            net, (image,), path, dynamo=True, opset_version=20, verbose=False, external_data=False
        )
        with FlopCounterMode(display=False) as counter:
            net(image)
    facts = read_graph(path, batch=1)
    assert facts.macs == counter.get_total_flops() // 2
    assert facts.macs == pytest.approx(published, rel=0.011)
    if name == "resnet18":
        # The exporter folds the batch norms into the convolutions; the biases that this leaves are
        # zero in an untrained net, and it drops those.
        norms = [m for m in net.modules() if isinstance(m, torch.nn.BatchNorm2d)]
        folded = sum(p.numel() for norm in norms for p in norm.parameters())
        assert facts.parameters == sum(p.numel() for p in net.parameters()) - folded
