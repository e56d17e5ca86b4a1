"""Networks for segmentation on their way from checkpoint to checked file: dense logits, volumes, INT8.

A few stand for all; the others are marked `exhaustive`: ``pytest -m exhaustive``.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
import torch
from export_programs import recipe
from refusals import naming
from shipped import shipped
from small_data import meta
from torch import nn

from edgeward.compression import calibration
from edgeward.compression.config import RecipeConfig
from edgeward.compression.stage import run as compress
from edgeward.core.errors import UserError
from edgeward.core.io import read_json
from edgeward.data.store import Prepared, to_input
from edgeward.export import metadata
from edgeward.export.config import export_config
from edgeward.export.stage import run as export
from edgeward.models.checkpoint import save_checkpoint
from edgeward.models.config import ModelConfig
from edgeward.models.deploy import Deployable
from edgeward.models.factory import build
from edgeward.models.program import export_program
from edgeward.models.zoo.ssd import ScanBlock
from edgeward.records.recipe import ModelMeta, Recipe
from edgeward.runtimes.onnxruntime import export as onnx_file
from edgeward.runtimes.onnxruntime.config import Export
from edgeward.runtimes.onnxruntime.graph import read_graph
from edgeward.runtimes.parity import compare
from edgeward.runtimes.session import open_session
from edgeward.statistics.decisions import margin
from edgeward.tasks.inputs import reader

torch.set_num_threads(1)

PATCHES = {"size": [16, 32, 16], "per_case": 1, "foreground": 0.67, "overlap": 0.25, "windows": 4}


def onnx_config() -> Export:
    content = shipped("export", "onnx")
    content["parity"] |= {"dense_images": 6, "dense_batch": 3, "batch_sizes": [1, 3]}
    found = export_config(content)
    assert isinstance(found, Export)
    return found


def meta_of(name: str, data: Prepared, size: list[int]) -> ModelMeta:
    card = data.card
    assert card.image_shape is not None
    return meta(
        model=ModelConfig(**shipped("model", name)).model_dump(mode="json"),
        task=data.task,
        spatial_dims=data.spatial_dims,
        num_classes=len(data.classes),
        in_chans=card.image_shape[-1],
        image_size=size,
        patches=None if data.spatial_dims == 2 else {**PATCHES, "size": size},
        mean=card.channel_mean,
        std=card.channel_std,
        classes=data.classes,
        data=card.name,
    )


def checkpoint(path: Path, name: str, data: Prepared, size: list[int]) -> ModelMeta:
    """Write an untrained network whose batch norms have seen some images."""
    facts = meta_of(name, data, size)
    torch.manual_seed(0)
    net = build(
        ModelConfig.model_validate(facts.model),
        num_classes=facts.n_labels,
        in_chans=facts.in_chans,
        image_size=size,
    )
    deployable = Deployable(net, facts.mean, facts.std, facts.spatial_dims)
    with torch.no_grad():
        deployable.train()(torch.from_numpy(reader(data, facts, 0)(data.calibration)))
    save_checkpoint(path, deployable, facts)
    return facts


def case(
    name: str, dims: int, size: list[int], recipe: str, always_float: int, slow: bool = False
) -> Any:
    marks = [pytest.mark.exhaustive] if slow else []
    return pytest.param(
        name, dims, size, recipe, always_float, marks=marks, id=f"{name}-{dims}d-{recipe}"
    )


@pytest.mark.parametrize(
    ("name", "dims", "size", "recipe", "always_float"),
    [
        case("u_lite", 2, [32, 32], "ptq_int8", 0),
        case("u_lite3d", 3, [16, 32, 16], "ptq_int8", 1),
        case("vim_unet", 2, [32, 32], "ptq_int8", 0),
        case("ultralight_vm_unet", 3, [32, 32, 32], "fp32", 0),
        case("u_lite", 2, [32, 32], "fp32", 0, slow=True),
        case("ultralight_vm_unet", 2, [32, 32], "fp32", 0, slow=True),
        case("lightm_unet_w8", 3, [8, 16, 8], "fp32", 0, slow=True),
        case("u_lite3d", 3, [16, 32, 16], "fp32", 0, slow=True),
        case("mk_unet_t", 2, [32, 32], "fp32", 0, slow=True),
        case("mk_unet_t", 2, [32, 32], "ptq_int8", 24, slow=True),
        case("mk_unet_t", 3, [32, 32, 32], "ptq_int8", 34, slow=True),
        case("vim_unet", 3, [16, 32, 16], "ptq_int8", 1, slow=True),
        case("unet", 2, [32, 32], "ptq_int8", 4, slow=True),
        case("unet", 3, [16, 32, 16], "fp32", 0, slow=True),
        case("unet", 3, [16, 32, 16], "ptq_int8", 6, slow=True),
        case("ultralight_vm_unet", 2, [32, 32], "ptq_int8", 12, slow=True),
        case("lightm_unet_w8", 2, [32, 32], "fp32", 0, slow=True),
        case("lightm_unet_w8", 3, [8, 16, 8], "ptq_int8", 23, slow=True),
    ],
)
def test_from_checkpoint_to_checked_file(
    name: str,
    dims: int,
    size: list[int],
    recipe: str,
    always_float: int,
    small_masks: Prepared,
    small_volumes: Prepared,
    tmp_path: Path,
) -> None:
    data = small_masks if dims == 2 else small_volumes
    given = checkpoint(tmp_path / "model.pt", name, data, size)
    compress(
        RecipeConfig.model_validate(shipped("compress", recipe)),
        seed=0,
        checkpoint=tmp_path / "model.pt",
        prepared=data.root,
        out=tmp_path,
        work=tmp_path / "work",
        threads=1,
    )
    export(
        onnx_config(),
        program=tmp_path / "model.pt2",
        recipe=tmp_path / "recipe.json",
        prepared=data.root,
        out=tmp_path,
        threads=1,
    )
    found = read_json(tmp_path / "parity.json")
    assert found["passed"], found["failures"]
    assert found["n"] == 6
    assert found["spread"] > 0
    model = onnx.load(tmp_path / "model.onnx")
    assert not {node.domain for node in model.graph.node} & {"edgeward"}
    assert [
        d.dim_param or d.dim_value for d in model.graph.output[0].type.tensor_type.shape.dim
    ] == [
        "batch",
        3,
        *size,
    ]
    facts = read_graph(tmp_path / "model.onnx", batch=1)
    assert facts.input_shape == [1, given.in_chans, *size]
    record = read_json(tmp_path / "recipe.json")
    if recipe == "ptq_int8":
        assert facts.precision == "int8"
        assert record["calibration"]["n"] == len(data.calibration)
        assert len(record["found"]["float_layers"]) == always_float, record["found"]["float_layers"]
        assert record["quantized_parameter_share"] > (0.3 if always_float > 1 else 0.95)
    else:
        assert facts.precision == "fp32"
        assert not any("BatchNormalization" in operator for operator in facts.operators)


def test_the_gated_recurrence_ships_dense_logits_too(tmp_path: Path) -> None:
    torch.manual_seed(0)
    net = nn.Sequential(
        nn.Conv2d(3, 16, 3, padding=1),
        ScanBlock(16, 32, (8, 12), "cross", 4, 8),
        nn.Conv2d(16, 3, 1),
    ).eval()
    image = torch.randn(2, 3, 8, 12)
    model = onnx_file.to_onnx(export_program(net, image), 20, onnx_config().recurrence)
    onnx.save(model, tmp_path / "model.onnx")
    run = open_session(tmp_path / "model.onnx", 1).run
    with torch.no_grad():
        np.testing.assert_allclose(run(image.numpy()), net(image).numpy(), atol=1e-4)
    assert "LinearAttention" in {node.op_type for node in model.graph.node}


def test_patches_for_calibration_are_seeded_by_case_and_fingerprinted(
    small_volumes: Prepared,
) -> None:
    cut = meta(patches={**PATCHES, "size": [8, 8, 8]})
    read, chosen = reader(small_volumes, cut, 1), small_volumes.calibration
    patches = read(chosen)
    assert patches.shape == (len(chosen), 1, 8, 8, 8)
    assert patches.dtype == np.float32
    # A case's patch does not depend on what else is in the batch, but on the seed.
    np.testing.assert_array_equal(read(chosen[3:4])[0], patches[3])
    assert (reader(small_volumes, cut, 2)(chosen) != patches).any()
    fingerprint = calibration.fingerprint(read, chosen)
    assert fingerprint == calibration.fingerprint(read, chosen[::-1])
    assert fingerprint != calibration.fingerprint(reader(small_volumes, cut, 2), chosen)


def test_images_in_the_plane_are_read_whole(small_masks: Prepared) -> None:
    read = reader(small_masks, meta(), 0)
    expected = to_input(small_masks.images[small_masks.calibration])
    np.testing.assert_array_equal(read(small_masks.calibration), expected)


def test_every_pixel_is_a_decision_of_the_comparison() -> None:
    reference = np.zeros((2, 3, 4, 5))
    reference[:, 1] = 1.0
    other = reference.copy()
    other[0, 2, 0, 0] = 3.0
    found = compare(reference, other)
    assert found.agreement == pytest.approx(39 / 40)
    assert (found.flipped, found.flipped_margin) == (1, 1.0)
    assert found.max_abs == 3.0
    assert margin(reference).shape == (2, 4, 5)


def test_a_model_of_another_task_is_refused(small_masks: Prepared) -> None:
    facts = Recipe.model_validate(recipe(small_masks, "fp32"))
    other = facts.model_copy(update={"meta": facts.meta.model_copy(update={"task": "multiclass"})})
    with pytest.raises(UserError, match=naming("multiclass", "segmentation")):
        metadata.metadata(other, small_masks.card)
