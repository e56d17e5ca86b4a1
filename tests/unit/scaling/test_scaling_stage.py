"""Untrained networks at several sizes: files, refusals, equal bytes, what a profile insists on."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from refusals import naming
from shipped import shipped

from edgeward.compression.config import RecipeConfig
from edgeward.core.errors import UserError
from edgeward.core.io import read_json
from edgeward.export.config import export_config
from edgeward.models.config import ModelConfig
from edgeward.profiling import ceilings
from edgeward.profiling.config import ProfileConfig
from edgeward.records.scaling import Unmeasured
from edgeward.scaling import measure
from edgeward.scaling.config import ScalingConfig
from edgeward.scaling.images import random_images
from edgeward.scaling.stage import run
from edgeward.tasks.base import task

SCALING = ScalingConfig(seed=0, classes=5, channels=1, spatial_dims=2, images=16, batch=8)


def export(root: Path, model: dict[str, Any], size: int, **changes: int) -> dict[str, float]:
    torch.set_num_threads(1)
    return run(
        ModelConfig.model_validate(model),
        RecipeConfig.model_validate(shipped("compress", "fp32")),
        export_config(shipped("export", "onnx")),
        SCALING.model_copy(update=changes),
        size=size,
        build=root / str(size) / "build.json",
        out=root / str(size) / "export",
        threads=1,
    )


@pytest.fixture
def quick() -> ProfileConfig:
    short = {"min_duration_s": 0.02, "min_count": 5, "max_duration_s": 0.2}
    return ProfileConfig.model_validate(shipped("profile", "host_quick") | short)


def test_same_input_same_bytes_and_grey_images(tmp_path: Path, quick: ProfileConfig) -> None:
    for name in ("one", "two"):
        assert export(tmp_path / name, shipped("model", "dscnn"), 40)["refused"] == 0
    files = [tmp_path / name / "40" / "export/model.onnx" for name in ("one", "two")]
    assert files[0].read_bytes() == files[1].read_bytes()
    builds = [file.parents[1] / "build.json" for file in files]
    assert builds[0].read_text() == builds[1].read_text()

    best = tmp_path / "ceilings.json"
    ceilings.run(quick.of_ceilings, out=best)
    out = tmp_path / "host_quick.json"
    metrics = measure.run(quick, build=builds[0], model=files[0], out=out, ceilings=best)
    assert metrics["refused"] == 0
    assert metrics["roofline_ms"] > 0
    assert read_json(out)["model"]["input_shape"] == [1, 1, 40, 40]

    files[1].write_bytes(files[1].read_bytes() + b"\0")
    with pytest.raises(UserError, match=naming(files[1], builds[1])):
        measure.run(quick, build=builds[1], model=files[1], out=tmp_path / "changed.json")
    files[1].unlink()
    with pytest.raises(UserError, match=naming(files[1], builds[1])):
        measure.run(quick, build=builds[1], model=files[1], out=tmp_path / "missing.json")
    assert not (tmp_path / "changed.json").exists()


def test_a_size_that_a_network_cannot_take_is_recorded(
    tmp_path: Path, quick: ProfileConfig
) -> None:
    model = tmp_path / "24" / "export/model.onnx"
    assert export(tmp_path / "new", shipped("model", "edgenext_xx_small"), 24) == {"refused": 1}
    assert (tmp_path / "new" / "24" / "export").is_dir()
    model.parent.mkdir(parents=True)
    model.write_text("of an earlier run")
    assert export(tmp_path, shipped("model", "edgenext_xx_small"), 24) == {"refused": 1}
    facts = read_json(tmp_path / "24" / "build.json")
    assert facts["status"] == "refused"
    assert "1x24x24" in facts["reason"]
    assert "32x32" in facts["reason"]
    assert list(model.parent.iterdir()) == []
    build = tmp_path / "24" / "build.json"
    metrics = measure.run(quick, build=build, model=model, out=tmp_path / "d.json")
    assert metrics == {"refused": 1.0}
    assert Unmeasured.read(tmp_path / "d.json").reason == facts["reason"]


def test_a_wrong_option_stops_the_sweep(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=naming("'widht'", "config/model/resnet18.yaml")):
        export(tmp_path, shipped("model", "resnet18") | {"options": {"widht": 3}}, 64)
    assert not (tmp_path / "64" / "build.json").exists()


def test_random_images_differ_by_more_than_noise(tmp_path: Path) -> None:
    data = random_images(tmp_path, SCALING, 32, task("multiclass", ""))
    assert data.images.shape == (16, 32, 32, 1)
    assert len(data.indices("val")) == len(data.calibration) == 16
    means = data.images.mean((1, 2, 3))
    assert means.std() > 10 * data.images.std((1, 2)).mean() / 32
    assert data.card.channel_mean[0] == pytest.approx(data.images.mean() / 255)


@pytest.mark.parametrize(("spatial_dims", "size"), [(2, 32), (3, 16)])
def test_segmentation_networks_have_sizes_too(
    tmp_path: Path, quick: ProfileConfig, spatial_dims: int, size: int
) -> None:
    changes = {"spatial_dims": spatial_dims, "images": 4, "classes": 2}
    name = {2: "u_lite", 3: "u_lite3d"}[spatial_dims]
    assert export(tmp_path, shipped("model", name), size, **changes)["refused"] == 0
    build, model = (tmp_path / str(size) / name for name in ("build.json", "export/model.onnx"))
    facts = read_json(build)
    assert (facts["status"], facts["spatial_dims"]) == ("exported", spatial_dims)
    measure.run(quick, build=build, model=model, out=tmp_path / "host_quick.json")
    profile = read_json(tmp_path / "host_quick.json")
    assert profile["model"]["input_shape"] == [1, 1, *[size] * spatial_dims]
