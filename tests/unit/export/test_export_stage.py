"""The stage on programs as compress writes them, and what it must refuse."""

from __future__ import annotations

import json
import logging
import shutil
from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnxruntime
import pytest
import torch
from export_programs import calibration_images, golden, recipe, to_int8, trained, zoo
from refusals import naming
from shipped import shipped

from edgeward.core.errors import UserError
from edgeward.core.io import write_json
from edgeward.data.store import Prepared, to_input
from edgeward.export import parity, stage
from edgeward.export.config import export_config
from edgeward.models.program import export_program, save_program
from edgeward.records.recipe import Recipe
from edgeward.runtimes.base import ExportConfig
from edgeward.runtimes.onnxruntime import export as onnx_file
from edgeward.runtimes.onnxruntime.config import Export

METADATA = (
    "edgeward_format task data model recipe seed precision classes input_range mean std image_size "
    "logit_shift compression versions data_sha256"
)


def config(**parity_changes: Any) -> Export:
    values = shipped("export", "onnx")
    values["parity"].update(parity_changes)
    found = export_config(values)
    assert isinstance(found, Export)
    return found


@pytest.fixture(scope="module")
def compressed(
    small_prepared: Prepared, tmp_path_factory: pytest.TempPathFactory
) -> dict[str, Path]:
    """Folders with model.pt2 and recipe.json, for fp32 and INT8."""
    torch.set_num_threads(1)
    module = trained(small_prepared)
    example = torch.zeros(2, 3, 32, 32)
    programs = {
        "fp32": export_program(module, example),
        "int8": to_int8(module, calibration_images(small_prepared)),
    }
    folders = {}
    for precision, program in programs.items():
        folder = tmp_path_factory.mktemp(precision)
        save_program(folder / "model.pt2", program)
        write_json(folder / "recipe.json", recipe(small_prepared, precision))
        folders[precision] = folder
    return folders


def export(source: Path, data: Prepared, out: Path, cfg: ExportConfig) -> dict[str, float]:
    return stage.run(
        cfg,
        program=source / "model.pt2",
        recipe=source / "recipe.json",
        prepared=data.root,
        out=out,
        threads=1,
    )


Exported = dict[str, tuple[Path, dict[str, float]]]
"""Precision -> folder and metrics."""


@pytest.fixture(scope="module")
def exported(
    compressed: dict[str, Path], small_prepared: Prepared, tmp_path_factory: pytest.TempPathFactory
) -> Exported:
    found = {}
    for precision, folder in compressed.items():
        out = tmp_path_factory.mktemp("export") / precision
        found[precision] = (out, export(folder, small_prepared, out, config()))
    return found


@pytest.mark.parametrize("precision", ["fp32", "int8"])
def test_one_valid_file_as_the_contract_says(
    exported: Exported, small_prepared: Prepared, precision: str
) -> None:
    out, metrics = exported[precision]
    assert sorted(p.name for p in out.iterdir()) == ["model.onnx", "parity.json"]
    model = onnx.load(out / "model.onnx")
    onnx.checker.check_model(model, full_check=True)
    assert [(o.domain, o.version) for o in model.opset_import] == [("", 20)]
    assert not any(t.HasField("data_location") and t.data_location for t in model.graph.initializer)
    shapes = [
        [d.dim_param or d.dim_value for d in value.type.tensor_type.shape.dim]
        for value in (model.graph.input[0], model.graph.output[0])
    ]
    assert shapes == [["batch", 3, 32, 32], ["batch", 3]]
    assert (model.graph.input[0].name, model.graph.output[0].name) == ("image", "logits")
    properties = {p.key: json.loads(p.value) for p in model.metadata_props}
    assert set(properties) == set(METADATA.split())
    assert properties["classes"] == small_prepared.classes
    assert properties["precision"] == precision
    assert properties["input_range"] == [0, 255]
    assert set(properties["compression"]) == {"steps", "backend", "scheme", "calibration"}
    assert metrics["file_mb"] == (out / "model.onnx").stat().st_size / 1e6


@pytest.mark.parametrize("precision", ["fp32", "int8"])
def test_file_says_nothing_about_this_machine(exported: Exported, precision: str) -> None:
    content = (exported[precision][0] / "model.onnx").read_bytes()
    for trace in (str(Path(__file__).parents[3]), str(Path.home()), "site-packages", "stack_trace"):
        assert trace.encode() not in content
    node = next(n for n in onnx.load_from_string(content).graph.node if n.op_type == "Conv")
    assert {p.key: p.value for p in node.metadata_props} == {"module": "net.stem.0"}


@pytest.mark.parametrize("precision", ["fp32", "int8"])
def test_export_is_reproducible(
    exported: Exported,
    compressed: dict[str, Path],
    small_prepared: Prepared,
    tmp_path: Path,
    precision: str,
) -> None:
    export(compressed[precision], small_prepared, tmp_path, config())
    first = (exported[precision][0] / "model.onnx").read_bytes()
    assert (tmp_path / "model.onnx").read_bytes() == first


@pytest.mark.parametrize("precision", ["fp32", "int8"])
def test_operators_are_the_golden_ones(exported: Exported, precision: str) -> None:
    model = onnx.load(exported[precision][0] / "model.onnx")
    assert Counter(node.op_type for node in model.graph.node) == golden(f"residual_{precision}")


@pytest.mark.slow
@pytest.mark.parametrize(
    ("name", "options"),
    [
        ("mobileone_s0", {}),
        pytest.param(
            "efficientformerv2_s0", {"img_size": 64}, marks=pytest.mark.exhaustive
        ),  # what of it is executed is tested with compression
    ],
)
def test_operators_of_the_default_models_are_the_golden_ones(
    name: str, options: dict[str, int]
) -> None:
    module = zoo(name, **options)
    images = torch.randint(0, 256, (8, 3, 64, 64), generator=torch.Generator().manual_seed(0))
    programs = {
        "fp32": export_program(module, images[:2].float()),
        "int8": to_int8(module, images.float()),
    }
    for precision, program in programs.items():
        model = onnx_file.to_onnx(program, config().opset, config().recurrence)
        found = Counter(node.op_type for node in model.graph.node)
        assert found == golden(f"{name}_{precision}")


def test_int8_runs_in_integer_kernels(exported: Exported, tmp_path: Path) -> None:
    options = onnxruntime.SessionOptions()
    options.optimized_model_filepath = str(tmp_path / "fused.onnx")
    options.log_severity_level = 3
    path = exported["int8"][0] / "model.onnx"
    onnxruntime.InferenceSession(path, options, providers=["CPUExecutionProvider"])
    fused = Counter(node.op_type for node in onnx.load(tmp_path / "fused.onnx").graph.node)
    assert fused["QLinearConv"] == 3
    assert fused["Conv"] == 0


def test_logits_of_the_file_are_those_of_the_program(
    exported: Exported, compressed: dict[str, Path], small_prepared: Prepared
) -> None:
    images = to_input(small_prepared.images[small_prepared.indices("test")[:9]])
    for precision in ("fp32", "int8"):
        program = stage.load_program(compressed[precision] / "model.pt2").module()
        with torch.no_grad():
            expected = program(torch.from_numpy(images)).numpy()
        session = onnxruntime.InferenceSession(
            exported[precision][0] / "model.onnx", providers=["CPUExecutionProvider"]
        )
        found = session.run(["logits"], {"image": images})[0]
        assert np.abs(found - expected).max() < (1e-4 if precision == "fp32" else 0.2)


@pytest.mark.parametrize("precision", ["fp32", "int8"])
def test_parity_carries_every_figure(exported: Exported, precision: str) -> None:
    out, metrics = exported[precision]
    result = json.loads((out / "parity.json").read_text())
    assert result["passed"]
    assert result["failures"] == []
    assert result["n"] == 60  # all validation images, since there are fewer than asked for
    assert set(result["batches"]) == {"1", "2", "7"}
    assert metrics["agreement"] == result["onnx_vs_torch"]["agreement"]
    assert metrics["logit_error_max"] == result["onnx_vs_torch"]["max_abs"]
    assert result["tolerance"] == config().parity.model_dump()
    if precision == "int8":
        assert result["onnx_vs_torch"]["mean_abs"] <= result["limit"]["mean_abs"]
        assert result["sensitivity"]["mean_abs"] > 0
        assert result["decided"]["n"] > 0
        assert {"unfused_vs_torch", "fused_vs_unfused"} <= set(result)


def test_fp32_out_of_tolerance_fails_with_the_figures(
    compressed: dict[str, Path], small_prepared: Prepared, tmp_path: Path
) -> None:
    (tmp_path / "model.onnx").write_text("the model of an earlier run")
    cfg = config(fp32={"absolute": 0.0, "to_spread": 1e-12})
    with pytest.raises(UserError, match=naming("model.onnx", "model.pt2", "export.parity.fp32")):
        export(compressed["fp32"], small_prepared, tmp_path, cfg)
    assert [p.name for p in tmp_path.iterdir()] == ["parity.json"]
    assert not json.loads((tmp_path / "parity.json").read_text())["passed"]


def damaged(path: Path, target: Path, factor: float) -> Path:
    """The same file with the scale of one weight tensor changed: what a wrong kernel looks like."""
    model = onnx.load(path)
    node = next(n for n in model.graph.node if n.op_type == "QuantizeLinear")
    scale = next(t for t in model.graph.initializer if t.name == node.input[1])
    values = onnx.numpy_helper.to_array(scale) * np.float32(factor)
    scale.CopyFrom(onnx.numpy_helper.from_array(values, scale.name))
    onnx.save(model, target)
    return target


def test_int8_kernel_that_computes_something_else_is_caught(
    exported: Exported, compressed: dict[str, Path], small_prepared: Prepared, tmp_path: Path
) -> None:
    program = stage.load_program(compressed["int8"] / "model.pt2")
    path = damaged(exported["int8"][0] / "model.onnx", tmp_path / "damaged.onnx", 0.5)
    facts = Recipe.model_validate(recipe(small_prepared, "int8"))
    forward = parity.torch_forward(program)
    result = parity.check(path, forward, small_prepared, facts, config().parity, "onnxruntime", 1)
    assert not result.passed
    assert any("the mean logit error is" in reason for reason in result.failures)
    assert any("already the graph without fusion is off" in r for r in result.failures)


def test_program_with_a_fixed_batch_is_refused(
    compressed: dict[str, Path], small_prepared: Prepared, tmp_path: Path
) -> None:
    module = trained(small_prepared)
    save_program(tmp_path / "model.pt2", torch.export.export(module, (torch.zeros(2, 3, 32, 32),)))
    shutil.copy(compressed["fp32"] / "recipe.json", tmp_path)
    with pytest.raises(UserError, match="has a fixed batch"):
        export(tmp_path, small_prepared, tmp_path / "out", config())


@pytest.mark.parametrize(
    ("change", "parts"),
    [
        (lambda r: r.pop("scheme"), ("recipe.json", "'scheme'")),
        (lambda r: r["meta"].pop("logit_shift"), ("recipe.json", "'meta.logit_shift'")),
        (lambda r: r.update(precision="int7"), ("recipe.json", "'precision'", "'int8'")),
        (
            lambda r: r["meta"].update(classes=["a", "b"]),
            ("['a', 'b']", "['common', 'middling', 'rare']"),
        ),
    ],
)
def test_recipe_that_does_not_fit_is_refused(
    compressed: dict[str, Path],
    small_prepared: Prepared,
    tmp_path: Path,
    change: Any,
    parts: tuple[str, ...],
) -> None:
    facts = recipe(small_prepared, "fp32")
    change(facts)
    write_json(tmp_path / "recipe.json", facts)
    shutil.copy(compressed["fp32"] / "model.pt2", tmp_path)
    with pytest.raises(UserError, match=naming(*parts)):
        export(tmp_path, small_prepared, tmp_path / "out", config())


def test_exporter_is_silent(
    compressed: dict[str, Path],
    small_prepared: Prepared,
    tmp_path: Path,
    capfd: pytest.CaptureFixture[str],
    caplog: pytest.LogCaptureFixture,
) -> None:
    with caplog.at_level(logging.INFO):
        export(compressed["fp32"], small_prepared, tmp_path, config())
    printed = capfd.readouterr()
    assert printed.out == ""
    assert printed.err == ""
    assert {record.name for record in caplog.records} == {"edgeward.export.stage"}
