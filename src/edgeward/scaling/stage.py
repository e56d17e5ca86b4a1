"""Stage ``scaling``: one network, untrained, as an ONNX file for one input size.

It goes through the stages that a trained network goes through: checkpoint, the reference
recipe, export with its parity check. So the file is what `train` and the rest would ship, but
for the values of the weights, on which neither operators nor shapes depend.
"""

from __future__ import annotations

import logging
import tempfile
from pathlib import Path

import torch

from edgeward.compression import stage as compress
from edgeward.compression.config import RecipeConfig
from edgeward.core.io import sha256
from edgeward.data.store import Prepared
from edgeward.export import stage as export
from edgeward.models.checkpoint import save_checkpoint
from edgeward.models.config import ModelConfig
from edgeward.models.deploy import Deployable
from edgeward.models.factory import SizeError, build
from edgeward.records.recipe import ModelMeta, Recipe
from edgeward.records.scaling import Build
from edgeward.runtimes.base import ExportConfig
from edgeward.scaling.config import ScalingConfig
from edgeward.scaling.images import random_images
from edgeward.tasks.base import tasks

log = logging.getLogger(__name__)


def untrained(
    model: ModelConfig, cfg: ScalingConfig, data: Prepared
) -> tuple[Deployable, ModelMeta]:
    """Return a network with random weights, and its meta as in ``model.pt``.

    Batch norms keep their initial statistics. Those of a few random images would vary so much over
    the channels of the last, smallest maps that rounding errors grow: at 64 pixels MobileOne-S4 then
    differs by 0.3 % of its logits' spread between float32 and float64, and by 0.0001 % as it starts.

    Raises
    ------
    SizeError
        If the network cannot take images of this size.
    """
    card = data.card
    assert card.image_shape is not None
    *size, channels = card.image_shape
    torch.manual_seed(cfg.seed)
    net = build(model, num_classes=data.n_labels, in_chans=channels, image_size=size)
    whole = {"size": size, "per_case": 1, "foreground": 0.0, "overlap": 0.0, "windows": 1}
    meta = ModelMeta(
        model=model.model_dump(mode="json"),
        task=data.task,
        spatial_dims=data.spatial_dims,
        num_classes=cfg.classes,
        n_labels=data.n_labels,
        in_chans=channels,
        image_size=size,
        patches=whole if data.spatial_dims == 3 else None,
        mean=card.channel_mean,
        std=card.channel_std,
        classes=data.classes,
        logit_shift=[0.0] * data.n_labels,
        data=card.name,
        seed=cfg.seed,
    )
    mean, std = card.channel_mean, card.channel_std
    return Deployable(net, mean, std, data.spatial_dims), meta


def export_size(
    model: ModelConfig,
    recipe: RecipeConfig,
    export_cfg: ExportConfig,
    cfg: ScalingConfig,
    *,
    size: int,
    out: Path,
    threads: int,
) -> Build:
    """Write ``model.onnx`` and ``parity.json`` for one size into `out`; return the facts of it, the same for the same input.

    Parameters
    ----------
    size : side of the square images or cubes, pixels.

    Raises
    ------
    UserError
        If the network cannot be built at any size, or its export is out of tolerance.
    """
    facts = Build(
        model=model.name,
        family=model.family,
        size=size,
        spatial_dims=cfg.spatial_dims,
        status="exported",
        reason=None,
    )
    out.mkdir(
        parents=True, exist_ok=True
    )  # a declared output, also where the network refuses the size
    (out / "model.onnx").unlink(missing_ok=True)
    # The scale of an untrained network's logits means nothing, so no absolute error is allowed.
    fp32 = export_cfg.parity.fp32.model_copy(update={"absolute": 0.0})
    changes = {"batch": cfg.batch, "dense_batch": cfg.batch, "fp32": fp32}
    parity = export_cfg.parity.model_copy(update=changes)
    with tempfile.TemporaryDirectory(prefix="edgeward-scaling-") as folder:
        root = Path(folder)
        any_task = next(t for t in tasks() if t.dense == model.dense)
        data = random_images(root / "prepare", cfg, size, any_task)
        try:
            save_checkpoint(root / "model.pt", *untrained(model, cfg, data))
        except SizeError as error:
            log.info("%s", error)
            return facts.model_copy(update={"status": "refused", "reason": str(error)})
        compress.run(
            recipe,
            seed=cfg.seed,
            checkpoint=root / "model.pt",
            prepared=data.root,
            out=root,
            work=root / "work",
            threads=threads,
        )
        found = export.run(
            export_cfg.model_copy(update={"parity": parity}),
            program=root / "model.pt2",
            recipe=root / "recipe.json",
            prepared=data.root,
            out=out,
            threads=threads,
        )
        return facts.model_copy(
            update={
                "parameters": Recipe.read(root / "recipe.json").parameters,
                "sha256": sha256(out / "model.onnx"),
                "logit_error": found["logit_error_max"],
                "logit_spread": found["logit_spread"],
            }
        )


def run(
    model: ModelConfig,
    recipe: RecipeConfig,
    export_cfg: ExportConfig,
    cfg: ScalingConfig,
    *,
    size: int,
    build: Path,
    out: Path,
    threads: int,
) -> dict[str, float]:
    """Export an untrained network for one size; write ``build.json``, the facts of `export_size`.

    Parameters
    ----------
    recipe : of the reference, e.g. fp32.
    build : the JSON to write. out : folder for ``model.onnx`` and ``parity.json``.

    Returns
    -------
    ``refused`` (0 or 1), and where it is 0 ``parameters, logit_error, logit_spread``.
    """
    facts = export_size(model, recipe, export_cfg, cfg, size=size, out=out, threads=threads)
    facts.write(build)
    if facts.status == "refused":
        return {"refused": 1.0}
    names = ("parameters", "logit_error", "logit_spread")
    return {"refused": 0.0, **{name: float(getattr(facts, name)) for name in names}}
