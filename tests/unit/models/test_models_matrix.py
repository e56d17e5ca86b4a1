"""Every classifier of config/model/: published size, awkward sizes, export with parity, profile.

Each goes, untrained, through the code that a sweep with sizes runs. Large siblings, which differ
from a tested model in widths and depths, are marked `exhaustive`: ``pytest -m exhaustive``.
"""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from refusals import naming
from shipped import all_of, shipped

from edgeward.compression.config import RecipeConfig
from edgeward.core.errors import UserError
from edgeward.core.io import read_json
from edgeward.export.config import export_config
from edgeward.models.config import ModelConfig
from edgeward.models.factory import SizeError, build
from edgeward.profiling.config import ProfileConfig
from edgeward.scaling import measure
from edgeward.scaling.config import ScalingConfig
from edgeward.scaling.stage import export_size

# Parameters with 1000 classes and 224x224 pixels: as trained, and deployed where branches fuse.
PUBLISHED: dict[str, tuple[int, int | None]] = {
    "mobileone_s0": (5_293_272, 2_078_504),
    "mobileone_s1": (4_825_192, 4_764_840),
    "mobileone_s2": (7_884_648, 7_808_168),
    "mobileone_s3": (10_170_600, 10_078_312),
    "mobileone_s4": (14_951_248, 14_838_352),
    "efficientformerv2_s0": (3_600_256, None),
    "efficientformerv2_s1": (6_185_560, None),
    "mobilevit_xxs": (1_272_024, None),
    "mobilevit_xs": (2_317_848, None),
    "mobilevit_s": (5_578_632, None),
    "mobilenetv3_small": (2_542_856, None),
    "mobilenetv4_conv_small": (3_774_024, None),
    "edgenext_xx_small": (1_327_216, None),
    "fastvit_t8": (4_026_232, None),
    "repvit_m0_9": (5_489_328, 5_067_056),
    "tiny_vit_5m": (5_392_764, None),
    "resnet18": (11_689_512, None),
    "mambaout_femto": (7_304_536, None),
    "efficientvim_m1": (6_679_458, None),  # of the authors' code
    "efficientvim_m2": (13_903_842, None),
    "efficientvim_m3": (16_604_174, None),
    "efficientvim_m4": (19_606_505, None),
}
SIBLINGS = {
    *("mobileone_s1", "mobileone_s2", "mobileone_s3", "mobileone_s4", "efficientformerv2_s1"),
    "efficientnet_lite0_imagenet",
    *("mobilevit_xs", "mobilevit_s"),
    *(
        "efficientvim_m1",
        "efficientvim_m2",
        "efficientvim_m3",
        "efficientvim_m4",
        "efficientvim_xs_h2",
    ),
    *("medmamba_t", "medmamba_s", "medmamba_b", "vmamba_t"),  # the scan of s6_xs
}
OF_VOLUMES = {"resnet18_3d", "ssd_3d_xs"}  # see test_models_volumes.py
# Sizes that a model cannot take; all others of AWKWARD it must take.
AWKWARD = [(28, 28), (72, 96), (33, 47)]
REFUSED = {
    "edgenext_xx_small": [(28, 28)],
    "efficientformerv2_s0": [(72, 96), (33, 47)],
    "efficientformerv2_s1": [(72, 96), (33, 47)],
    **{name: [(28, 28)] for name in ("medmamba_t", "medmamba_s", "medmamba_b")},
}


def model(name: str) -> ModelConfig:
    return ModelConfig.model_validate(shipped("model", name))


MODELS = [n for n in all_of("model") if not model(n).dense and n not in OF_VOLUMES]
marked = [
    pytest.param(name, marks=pytest.mark.exhaustive) if name in SIBLINGS else name
    for name in MODELS
]


@pytest.mark.parametrize("name", PUBLISHED)
def test_parameters_are_the_published_ones(name: str) -> None:
    with torch.device("meta"):  # shapes only: no memory, no time
        net = build(model(name), num_classes=1000, in_chans=3, image_size=(224, 224))
    assert sum(p.numel() for p in net.parameters()) == PUBLISHED[name][0]


@pytest.mark.parametrize("name", marked)
@pytest.mark.parametrize("size", AWKWARD, ids=lambda size: f"{size[0]}x{size[1]}")
def test_awkward_sizes_work_or_are_one_clear_error(name: str, size: tuple[int, int]) -> None:
    if size not in REFUSED.get(name, []):
        net = build(model(name), num_classes=7, in_chans=3, image_size=size).eval()
        with torch.no_grad():
            assert net(torch.zeros(1, 3, *size)).shape == (1, 7)
        return
    with pytest.raises(SizeError) as error:
        build(model(name), num_classes=7, in_chans=3, image_size=size)
    said = str(error.value)
    for word in (name, f"3x{size[0]}x{size[1]}", "image_size", "config/data/"):
        assert word in said
    assert any(other in said for other in ("32x32", "96x96")), said


def test_an_option_that_does_not_exist_is_no_matter_of_size() -> None:
    cfg = model("resnet18").model_copy(update={"options": {"widht": 3}})
    with pytest.raises(UserError, match=naming("'widht'", "config/model/resnet18.yaml")) as error:
        build(cfg, num_classes=7, in_chans=3, image_size=(64, 64))
    assert not isinstance(error.value, SizeError)


@pytest.fixture(scope="module")
def quick() -> ProfileConfig:
    """A very short measurement, whose figures mean nothing."""
    short = {"min_duration_s": 0.02, "min_count": 5, "max_duration_s": 0.2}
    return ProfileConfig.model_validate(shipped("profile", "host_quick") | short)


@pytest.mark.parametrize("name", marked)
def test_model_is_exported_checked_and_profiled(
    name: str, quick: ProfileConfig, tmp_path: Path
) -> None:
    torch.set_num_threads(1)
    facts = export_size(
        model(name),
        RecipeConfig.model_validate(shipped("compress", "fp32")),
        export_config(shipped("export", "onnx")),
        ScalingConfig(seed=0, classes=1000, channels=3, spatial_dims=2, images=16, batch=8),
        size=64,
        out=tmp_path,
        threads=1,
    )
    assert facts.status == "exported"
    assert facts.family == model(name).family
    fused = PUBLISHED.get(name, (0, None))[1]
    if fused:
        assert facts.parameters == fused
    assert facts.logit_error is not None
    assert facts.logit_spread is not None
    assert 0 < facts.logit_error < 1e-3 * facts.logit_spread
    assert read_json(tmp_path / "parity.json")["passed"]

    facts.write(tmp_path / "build.json")
    metrics = measure.run(
        quick,
        build=tmp_path / "build.json",
        model=tmp_path / "model.onnx",
        out=tmp_path / "host_quick.json",
    )
    profile = read_json(tmp_path / "host_quick.json")
    assert profile["model"]["sha256"] == facts.sha256
    assert profile["model"]["input_shape"] == [1, 3, 64, 64]
    # The exporter drops biases that are zero and unfolds tables of attention biases.
    assert abs(profile["model"]["parameters"] / facts.parameters - 1) < 0.02
    assert metrics["latency_p50_ms"] > 0
    assert metrics["peak_memory_mb"] > 0
    assert metrics["bytes_moved"] > 4 * profile["model"]["parameters"]
