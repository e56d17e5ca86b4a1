"""SSD in ONNX: every form against the float64 recurrence, the fused operator against ONNX's own."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import onnx
import onnxruntime
import pytest
import torch
from export_programs import MEAN, STD, to_int8
from onnx.reference import ReferenceEvaluator
from shipped import shipped

from edgeward.core.errors import UserError
from edgeward.models.config import ModelConfig
from edgeward.models.deploy import Deployable, reparameterize
from edgeward.models.factory import build as build_model
from edgeward.models.program import export_program, load_program, save_program
from edgeward.models.ssm.gated import gated_scan, sequential
from edgeward.models.zoo.ssd import build
from edgeward.runtimes.onnxruntime import export as onnx_file
from edgeward.runtimes.onnxruntime import lowering
from edgeward.runtimes.onnxruntime.config import RecurrenceConfig
from edgeward.runtimes.openvino.agent import Engine
from edgeward.runtimes.session import open_session

FORMS = ["linear_attention", "matmul", "scan"]


class Recurrence(torch.nn.Module):
    """The recurrence alone, fed from one input (b, t, channels)."""

    def __init__(self, heads: int, groups: int, n: int, p: int) -> None:
        super().__init__()
        self.heads, self.groups = heads, groups
        self.sizes = [groups * n, groups * n, heads * p, heads]

    def parts(
        self, x: torch.Tensor
    ) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor, torch.Tensor]:
        q, k, v, g = x.split(self.sizes, dim=2)
        return q, k, v, -g.square()

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return gated_scan(*self.parts(x), self.heads, self.groups)


def in_forms(
    program: torch.export.ExportedProgram, forms: list[str]
) -> Iterator[tuple[str, onnx.ModelProto]]:
    for form in forms:
        model = onnx_file.to_onnx(program, 20, RecurrenceConfig(gated=form))
        assert all(node.domain != lowering.DOMAIN for node in model.graph.node)
        yield form, model


def run(model: onnx.ModelProto, x: np.ndarray) -> np.ndarray:
    session = onnxruntime.InferenceSession(
        model.SerializeToString(), providers=["CPUExecutionProvider"]
    )
    return session.run(None, {"image": x})[0]


@pytest.mark.parametrize(
    ("length", "heads", "groups"), [(1, 1, 1), (49, 4, 1), (64, 4, 2), (300, 3, 3)]
)
def test_forms_equal_the_recurrence(length: int, heads: int, groups: int) -> None:
    module = Recurrence(heads, groups, n=8, p=32)
    x = torch.randn(3, length, sum(module.sizes), generator=torch.Generator().manual_seed(length))
    exact = sequential(*module.parts(x.double()), heads, groups).numpy()
    for form, model in in_forms(export_program(module, x), FORMS):
        for batch in (1, 3):
            found = run(model, x[:batch].numpy())
            assert np.abs(found - exact[:batch]).max() <= 1e-5 * np.abs(exact).max(), form


def test_forms_hold_with_decays_that_forget_at_once_and_never() -> None:
    module = Recurrence(2, 1, n=4, p=32)
    x = torch.randn(2, 200, sum(module.sizes), generator=torch.Generator().manual_seed(0))
    x[..., -2] *= 30  # to g = -900 and beyond
    x[..., -1] *= 1e-3
    exact = sequential(*module.parts(x.double()), 2, 1).numpy()
    for form, model in in_forms(export_program(module, x), FORMS):
        found = run(model, x.numpy())
        assert np.abs(found - exact).max() <= 1e-5 * np.abs(exact).max(), form


@pytest.mark.parametrize("groups", [1, 3])
def test_the_standard_operator_against_the_reference_of_onnx(groups: int) -> None:
    module = Recurrence(3, groups, n=8, p=16)
    x = torch.randn(2, 20, sum(module.sizes), generator=torch.Generator().manual_seed(1))
    [(_, model)] = in_forms(export_program(module, x), ["opset27"])
    onnx.checker.check_model(model, full_check=True)
    assert {entry.domain: entry.version for entry in model.opset_import} == {"": 27}
    assert sum(node.op_type == "LinearAttention" for node in model.graph.node) == 1
    found = ReferenceEvaluator(model).run(None, {"image": x.numpy()})[0]
    exact = sequential(*module.parts(x.double()), 3, groups).numpy()
    assert np.abs(found - exact).max() <= 1e-5 * np.abs(exact).max()


def test_an_engine_without_the_standard_operator_is_an_error(tmp_path: Path) -> None:
    module = Recurrence(1, 1, n=4, p=8)
    x = torch.randn(2, 5, sum(module.sizes))
    [(_, model)] = in_forms(export_program(module, x), ["opset27"])
    onnx_file.save(model, tmp_path / "model.onnx")
    if onnxruntime.__version__.startswith("1.31."):  # knows the schema, but has no kernel
        with pytest.raises(UserError, match=r"opset|LinearAttention"):
            open_session(tmp_path / "model.onnx", 1)
        return
    found = open_session(tmp_path / "model.onnx", 1).run(x.numpy())
    exact = sequential(*module.parts(x.double()), 1, 1).numpy()
    assert np.abs(found - exact).max() <= 1e-5 * np.abs(exact).max()


def tiny(order: str) -> torch.nn.Module:
    torch.manual_seed(0)
    net = build(
        num_classes=3,
        in_chans=3,
        image_size=(24, 40),
        drop_rate=0.0,
        dims=[8, 16],
        inner=[16, 16],
        blocks="cs-sc",
        expand=2,
        order=order,
        state=4,
        head=4,
    )
    for module in net.modules():  # statistics as after training, so that batch norm does something
        if isinstance(module, torch.nn.BatchNorm1d | torch.nn.BatchNorm2d):
            module.running_mean.normal_(std=0.1)
            module.running_var.uniform_(0.5, 2)
    return net.eval()


@pytest.mark.parametrize("order", ["raster", "bidirectional", "cross", "wavefront"])
def test_a_backbone_is_exported_in_every_order_and_form(order: str, tmp_path: Path) -> None:
    net = tiny(order)
    x = torch.randn(3, 3, 24, 40, generator=torch.Generator().manual_seed(2))
    save_program(tmp_path / "model.pt2", export_program(net, x))
    program = load_program(tmp_path / "model.pt2")
    with torch.no_grad():
        expected = net(x).numpy()
    forms = FORMS if order == "cross" else FORMS[:1]
    for form, model in in_forms(program, forms):
        onnx_file.save(model, tmp_path / "model.onnx")
        for batch in (1, 3):
            found = run(model, x[:batch].numpy())
            assert np.abs(found - expected[:batch]).max() <= 1e-4, form


def test_openvino_takes_the_products_of_an_int8_program(tmp_path: Path) -> None:
    pytest.importorskip("openvino", reason="openvino is an extra")
    torch.manual_seed(0)
    cfg = ModelConfig(**shipped("model", "ssd_xs"))
    net = Deployable(build_model(cfg, num_classes=3, in_chans=3, image_size=(64, 64)), MEAN, STD)
    x = 255 * torch.rand(4, 3, 64, 64, generator=torch.Generator().manual_seed(2))
    program = to_int8(reparameterize(net.eval()), x)
    path = tmp_path / "model.onnx"
    onnx_file.save(onnx_file.to_onnx(program, 20, RecurrenceConfig(gated="matmul")), path)
    exact = program.module(check_guards=False)(x).numpy()
    session = Engine({"device": "CPU", "precision": "f32"}).open(str(path), 1, 1)
    found = []
    for image in x.numpy():
        session.bind({"image": image[None]})()
        found.append(session.outputs()[0][0])
    assert np.abs(np.array(found) - exact).mean() < 0.1 * exact.std()
