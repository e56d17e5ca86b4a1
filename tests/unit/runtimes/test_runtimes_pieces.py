"""Operators as small files: which kernels run in them, and that they are timed on a device and remembered."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import onnx
import onnxruntime
import pytest
from shipped import shipped

from edgeward.export.config import export_config
from edgeward.profiling.config import ProfileConfig
from edgeward.profiling.kernels import open_bench
from edgeward.records.kernels import KernelCosts
from edgeward.runtimes.base import Form, Piece
from edgeward.runtimes.onnxruntime.pieces import build

IMAGE = (1, 16, 8, 8)


def conv(behind: tuple[object, ...] = (), absorbed: bool = True) -> Piece:
    settings = {"weight": (16, 16, 3, 3), "bias": True, "stride": (1, 1), "padding": (1, 1), "dilation": (1, 1), "groups": 1}  # fmt: skip
    return Piece("conv", (IMAGE,), IMAGE, tuple(sorted(settings.items())), behind, absorbed)


def linear(shape: tuple[int, ...], floats: bool) -> Piece:
    return Piece("linear", (shape,), (*shape[:-1], 12), (("bias", True), ("weight", (12, shape[-1]))), (), True, floats)  # fmt: skip


POOL = (("ceil", 0), ("dilation", (1, 1)), ("kernel", (2, 2)), ("padding", (0, 0)), ("stride", (2, 2)))  # fmt: skip
PIECES = [
    (conv(), "QLinearConv", 3),
    (conv(("relu",)), "QLinearConv", 3),
    (conv(("clip", 0.0, 6.0)), "QLinearConv", 3),
    (conv(("hardswish",), absorbed=False), "QLinearConv", 3),
    (Piece("add", (IMAGE, IMAGE), IMAGE), "QLinearAdd", 1),
    (Piece("mul", (IMAGE, (1, 16, 1, 1)), IMAGE), "QLinearMul", 1),
    (Piece("cat", (IMAGE, IMAGE), (1, 32, 8, 8), (("axis", 1),)), "QLinearConcat", 1),
    (Piece("max_pool", (IMAGE,), (1, 16, 4, 4), POOL), "QLinearConv", 2),
    (Piece("upsample", (IMAGE,), (1, 16, 16, 16)), "QLinearConv", 2),
    (linear((1, 24), floats=False), "QGemm", 1),
    (linear((1, 10, 24), floats=True), "MatMulIntegerToFloat", 1),
    (Piece("quantize", (IMAGE,), IMAGE), "QLinearConv", 1),
    (Piece("dequantize", (IMAGE,), IMAGE), "QLinearConv", 1),
]


def kernels(piece: Piece, form: Form, folder: Path) -> list[str]:
    """Run a piece in onnxruntime, and return the operators that it was turned into."""
    options = onnxruntime.SessionOptions()
    options.optimized_model_filepath = str(folder / "optimized.onnx")
    options.log_severity_level = 3
    model = build(piece, form)
    onnx.checker.check_model(model, full_check=True)
    session = onnxruntime.InferenceSession(model.SerializeToString(), options)
    kinds = {"tensor(float)": np.float32, "tensor(uint8)": np.uint8}
    feed = {i.name: np.ones((1, *i.shape[1:]), kinds[i.type]) for i in session.get_inputs()}
    (out,) = session.run(None, feed)
    assert out.shape == piece.output
    assert out.dtype == (np.uint8 if piece.ends(form)[-1][1] == "int" else np.float32)
    return [node.op_type for node in onnx.load(folder / "optimized.onnx").graph.node]


@pytest.mark.parametrize(("piece", "kernel", "least"), PIECES)
def test_the_integer_form_runs_in_integers(
    piece: Piece, kernel: str, least: int, tmp_path: Path
) -> None:
    found = kernels(piece, "int", tmp_path)
    assert found.count(kernel) >= least, found
    if piece.kind not in ("quantize", "dequantize"):
        assert not {"Conv", "FusedConv", "Gemm", "MatMul"} & {*found}
        floats = kernels(piece, "float", tmp_path)
        assert not [name for name in floats if name.startswith(("Q", "Dequantize"))], floats


def test_times_are_kept_for_all_that_ask_again(tmp_path: Path) -> None:
    cfg = ProfileConfig.model_validate(shipped("profile", "host_quick"))
    export, record = export_config(shipped("export", "onnx")), tmp_path / "devices" / "kernels.json"
    asked: list[tuple[Piece, Form]] = [(conv(), "float"), (conv(), "int"), (Piece("quantize", (IMAGE,), IMAGE), "int")]  # fmt: skip
    with open_bench(cfg, export, record, {"input_range": [0, 255]}) as bench:
        first = bench.costs(asked)
    known = KernelCosts.read(record)
    assert all(us >= 0 for us in first)
    assert {piece.signature(form) for piece, form in asked} < {*known.us}
    # Numbers that nothing measures: were they measured again, they would not stand there.
    content = json.loads(record.read_text())
    content["us"] = {name: us + 1e6 for name, us in content["us"].items()}
    record.write_text(json.dumps(content))
    with open_bench(cfg, export, record, {"input_range": [0, 255]}) as bench:
        again = bench.costs(asked)
    assert again == pytest.approx(first, abs=1e-3)  # what surrounds them is a million longer, too
    threads = cfg.model_copy(update={"threads": [2]})
    with open_bench(threads, export, record, {"input_range": [0, 255]}) as bench:
        bench.costs(asked[:1])
    assert max(us for us in KernelCosts.read(record).us.values() if us is not None) < 1e6
