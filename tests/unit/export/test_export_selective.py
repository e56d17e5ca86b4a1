"""Exact S6 and softplus in ONNX: every form against float64, every order, whole networks."""

from __future__ import annotations

import zipfile
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnxruntime
import pytest
import torch
from onnx import TensorProto, helper
from shipped import shipped
from torch import nn

from edgeward.export.config import export_config
from edgeward.models import program
from edgeward.models.deploy import Deployable
from edgeward.models.ssm.orders import ORDERS
from edgeward.models.ssm.reference import sequential_scan
from edgeward.models.ssm.ss2d import SS2D
from edgeward.models.zoo import medmamba, vmamba
from edgeward.runtimes.onnxruntime import export as onnx_file
from edgeward.runtimes.onnxruntime.config import Export
from edgeward.runtimes.onnxruntime.lowering import DOMAIN, Site, selective, softplus

Run = Callable[..., np.ndarray]


def session(model: onnx.ModelProto) -> onnxruntime.InferenceSession:
    onnx.checker.check_model(model, full_check=True)
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = 1
    options.log_severity_level = 3
    return onnxruntime.InferenceSession(
        model.SerializeToString(), options, providers=["CPUExecutionProvider"]
    )


def written(write: Callable[[Site], None], length: int, k: int, n: int, d: int) -> Run:
    """The form that `write` gives a placeholder, as a function of u, dt, a, b, c."""
    shapes: dict[str, list[Any]] = {name: [length, k, "batch", d] for name in ("u", "dt")}
    shapes |= {"a": [k, n, d]} | {name: [length, k, "batch", n] for name in ("b", "c")}
    node = helper.make_node("SelectiveScan", list(shapes), ["y", "starts"], domain=DOMAIN)
    site = Site(node, {key: [-1 if s == "batch" else s for s in v] for key, v in shapes.items()})
    write(site)
    graph = helper.make_graph(
        site.nodes,
        "recurrence",
        [helper.make_tensor_value_info(key, TensorProto.FLOAT, s) for key, s in shapes.items()],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, shapes["u"])],
        site.constants,
    )
    opsets = [helper.make_opsetid("", 20)]
    engine = session(helper.make_model(graph, opset_imports=opsets, ir_version=10))
    return lambda *values: engine.run(None, dict(zip(shapes, values, strict=True)))[0]


def inputs(length: int, k: int, batch: int, n: int, d: int) -> list[np.ndarray]:
    rng = np.random.default_rng(length)
    values = [
        rng.normal(size=(length, k, batch, d)),
        10 ** rng.uniform(-4, 1, (length, k, batch, d)),
        -np.exp(rng.normal(size=(k, n, d))),
        *rng.normal(size=(2, length, k, batch, n)),
    ]
    return [value.astype(np.float32) for value in values]


def forms(length: int) -> dict[str, Callable[[Site], None]]:
    chunk = selective.chunk_length(length, 1)
    found = {"scan": selective.scan, "unrolled": selective.unrolled}
    return found | ({"chunked": lambda s: selective.chunked_scan(s, chunk)} if chunk > 1 else {})


@pytest.mark.parametrize(("length", "k", "n", "d"), [(1, 1, 1, 1), (48, 4, 3, 5), (37, 2, 1, 4)])
def test_every_form_is_the_recurrence_at_every_batch(length: int, k: int, n: int, d: int) -> None:
    for name, form in forms(length).items():
        run = written(form, length, k, n, d)
        for batch in (1, 3):
            values = inputs(length, k, batch, n, d)
            expected = sequential_scan(*values)[0]
            error = np.abs(run(*values) - expected).max() / np.abs(expected).max()
            assert error < 1e-6, (name, batch)


@pytest.mark.parametrize("name", ["scan", "chunked"])
def test_long_sequences_stay_exact(name: str) -> None:
    run = written(forms(16384)[name], 16384, 2, 2, 4)
    values = inputs(16384, 2, 1, 2, 4)
    expected = sequential_scan(*values)[0]
    assert np.abs(run(*values) - expected).max() < 1e-5 * np.abs(expected).max()


@pytest.mark.parametrize(
    ("length", "state", "chunk"),
    [(3136, 3072, 16), (196, 1536, 14), (49, 64, 7), (3136, 12288, 1), (37, 64, 1), (1, 1, 1)],
)
def test_chunks_divide_the_sequence_and_are_for_small_states(
    length: int, state: int, chunk: int
) -> None:
    assert selective.chunk_length(length, state) == chunk


def test_softplus_is_exact_to_float32_everywhere() -> None:
    node = helper.make_node("Softplus", ["x"], ["y"])
    site = Site(node, {"x": [-1]})
    softplus.lower(site)
    value = [helper.make_tensor_value_info(n, TensorProto.FLOAT, ["n"]) for n in "xy"]
    graph = helper.make_graph(site.nodes, "softplus", value[:1], value[1:], site.constants)
    engine = session(
        helper.make_model(graph, opset_imports=[helper.make_opsetid("", 20)], ir_version=10)
    )
    x = np.concatenate([np.linspace(-80, 200, 200_001), -np.logspace(-30, 1, 999), [0.0, -0.0]])
    x = x.astype(np.float32)
    expected = np.logaddexp(0, x.astype(np.float64))
    found = engine.run(None, {"x": x})[0]
    assert np.abs(found / expected - 1).max() < 5e-7


def to_onnx(module: nn.Module, size: int, tmp_path: Path) -> onnx.ModelProto:
    """Through model.pt2, as the stages do it."""
    exported = program.export_program(module.eval(), torch.zeros(2, 3, size, size))
    program.save_program(tmp_path / "model.pt2", exported)
    cfg = export_config(shipped("export", "onnx"))
    assert isinstance(cfg, Export)
    return onnx_file.to_onnx(
        program.load_program(tmp_path / "model.pt2"), cfg.opset, cfg.recurrence
    )


def outputs(model: onnx.ModelProto, module: nn.Module, batch: int, size: int) -> Any:
    images = torch.rand(batch, 3, size, size, generator=torch.Generator().manual_seed(batch)) * 255
    with torch.no_grad():
        expected = module(images).numpy()
    return session(model).run(None, {"image": images.numpy()})[0], expected


class EveryOrder(nn.Module):
    """One scan layer per order on the same tokens; the logits are theirs, side by side."""

    def __init__(self) -> None:
        super().__init__()
        self.embed = nn.Conv2d(3, 8, 2, 2)
        self.layers = nn.ModuleList(
            SS2D(8, (6, 6), order=name, d_state=4, expand=1, gated=False, conv_bias=True)
            for name in ORDERS
        )
        self.head = nn.Linear(8 * 36, 5)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        tokens = self.embed(x).permute(0, 2, 3, 1)
        return torch.cat([self.head(layer(tokens).flatten(1)) for layer in self.layers], 1)


def test_every_order_is_exported(tmp_path: Path) -> None:
    torch.manual_seed(0)
    module = Deployable(EveryOrder(), [0.5] * 3, [0.2] * 3)
    model = to_onnx(module, 12, tmp_path)
    operators = Counter(node.op_type for node in model.graph.node)
    assert operators["Scan"] == len(ORDERS)
    assert {node.domain for node in model.graph.node} == {""}
    assert [(entry.domain, entry.version) for entry in model.opset_import] == [("", 20)]
    for batch in (1, 3):
        found, expected = (x.reshape(batch, -1, 5) for x in outputs(model, module, batch, 12))
        for index, name in enumerate(ORDERS):
            spread = expected[:, index].std()
            assert np.abs(found - expected)[:, index].max() < 1e-5 * spread, (name, batch)
        assert len({expected[0, index].tobytes() for index in range(len(ORDERS))}) == len(ORDERS)


SCAN = {"order": "cross", "drop_path_rate": 0.1, "width": 16, "depths": [1, 1]}


@pytest.mark.parametrize("name", ["medmamba", "vmamba"])
def test_networks_are_exported(name: str, tmp_path: Path) -> None:
    torch.manual_seed(0)
    given: dict[str, Any] = {
        "num_classes": 4, "in_chans": 3, "image_size": (64, 64), "drop_rate": 0.0, **SCAN,
    }  # fmt: skip
    net = (
        medmamba.build(**given, d_state=16, expand=2)
        if name == "medmamba"
        else vmamba.build(**given, d_state=1, expand=1.0, mlp_ratio=4.0)
    )
    module = Deployable(net, [0.5] * 3, [0.2] * 3)
    model = to_onnx(module, 64, tmp_path)
    operators = Counter(node.op_type for node in model.graph.node)
    assert operators["Scan"] == 2
    assert operators["SelectiveScan"] == 0
    for batch in (1, 3):
        found, expected = outputs(model, module, batch, 64)
        assert np.abs(found - expected).max() < 1e-4 * expected.std(), batch
    with zipfile.ZipFile(tmp_path / "model.pt2") as archive:
        graph = archive.read(next(n for n in archive.namelist() if "models/" in n))
    # What load_program imports before it reads the program in another process.
    assert program.OPERATORS[b"edgeward.selective_scan"] == "edgeward.models.ssm.selective"
    assert b"edgeward.selective_scan" in graph
