"""The small models, as files."""

from __future__ import annotations

from pathlib import Path

import onnx
import pytest
from onnx import helper
from profiling_models import quantise, small_model


@pytest.fixture(scope="session")
def fp32_model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("fp32") / "model.onnx"
    onnx.save(small_model(), path)
    return path


@pytest.fixture(scope="session")
def foreign_model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A model with an operator that no engine has."""
    model = small_model()
    model.graph.node.append(helper.make_node("NoSuchOperator", ["logits"], ["y"], domain="other"))
    model.graph.output[0].name = "y"
    model.opset_import.append(helper.make_opsetid("other", 1))
    path = tmp_path_factory.mktemp("foreign") / "model.onnx"
    onnx.save(model, path)
    return path


@pytest.fixture(scope="session")
def int8_model(fp32_model: Path) -> Path:
    return quantise(fp32_model, fp32_model.parent / "int8.onnx")
