"""Stage ``adopt``: a finished file, whatever made it, in the place of what compress and export write."""

from __future__ import annotations

import logging
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import get_args

import numpy as np

from edgeward.compression.calibration import choose, fingerprint
from edgeward.compression.config import RecipeConfig, Static
from edgeward.compression.quantizer import QUANTIZER
from edgeward.core.errors import UserError
from edgeward.core.io import atomic, sha256
from edgeward.core.plugins import load
from edgeward.data.store import Prepared, open_prepared, to_input
from edgeward.export import parity
from edgeward.export.metadata import metadata
from edgeward.export.taken import examine
from edgeward.models.config import ModelConfig
from edgeward.records.recipe import Calibrated, ModelMeta, Recipe
from edgeward.runtimes.base import ExportConfig, Given, runtime
from edgeward.tasks.base import task

PRECISIONS = get_args(Recipe.model_fields["precision"].annotation)
log = logging.getLogger(__name__)


def run(
    model: ModelConfig,
    recipe: RecipeConfig,
    cfg: ExportConfig,
    *,
    seed: int,
    file: Path,
    prepared: Path,
    built: Path,
    out: Path,
    threads: int,
) -> dict[str, float]:
    """Write ``recipe.json`` into `built`, ``model.onnx`` and ``parity.json`` into `out`.

    Parameters
    ----------
    model : what the file takes. recipe : under which name it is judged, and whether it is quantized first. file : the file.
    prepared : folder of the prepared data; the file that is written is compared with the given one on validation images.

    Returns
    -------
    Figures of the comparison, and ``correct`` (share of right decisions, at most so many validation images of each class).

    Raises
    ------
    UserError
        If the file is none, does not fit the data, or computes something else once it takes images as they are stored.
    """
    where = "config/export/ (key 'runtime')"
    taker = runtime(cfg.runtime, where).file_of
    taking = _Taking(model, recipe, file, open_prepared(prepared), seed, taker)
    given: Given = load("edgeward.runtimes", taker, "given", where).open_given(file, model.takes)
    with TemporaryDirectory() as folder:
        calibrated = np.empty(0, np.int64)
        if recipe.quantize is not None:
            given, calibrated = taking.quantized(given, recipe.quantize, Path(folder) / file.name)
        return taking.write(given, calibrated, cfg, built, out, threads)


@dataclass(frozen=True)
class _Taking:
    """What is taken, as which recipe, for which data, and the name of the runtime that takes it."""

    model: ModelConfig
    recipe: RecipeConfig
    file: Path
    data: Prepared
    seed: int
    taker: str

    def read(self, indices: np.ndarray) -> np.ndarray:
        """Return images, float32 (b, c, h, w), 0-255."""
        return to_input(self.data.images[indices])

    def shift(self, given: Given) -> list[float]:
        """Return what is added to the logits, in the order of the labels."""
        theirs = given.takes.logit_shift or [0.0] * len(self.data.outputs)
        if len(theirs) != len(self.data.outputs):
            raise UserError(
                f"{self.file}: takes.logit_shift has {len(theirs)} entries, its outputs are {len(self.data.outputs)} (config/model/)."
            )
        places = given.places(self.data.outputs)
        return theirs if places is None else [theirs[place] for place in places]

    def quantized(self, given: Given, cfg: Static, to: Path) -> tuple[Given, np.ndarray]:
        """Write the file in INT8; return it, and the indices of the calibration images, int64."""
        indices = choose(self.data, cfg.images, self.seed)
        saturates = QUANTIZER.saturates() if cfg.reduce_range == "auto" else cfg.reduce_range
        settings = cfg.model_dump(include={"method", "per_channel", "operators"})
        images = (self.read(indices[i : i + 1]) for i in range(len(indices)))
        return given.quantized(to, images, reduce_range=saturates, **settings), indices

    def write(
        self,
        given: Given,
        calibrated: np.ndarray,
        cfg: ExportConfig,
        built: Path,
        out: Path,
        threads: int,
    ) -> dict[str, float]:
        """Write the files of the stage."""
        data, labels, target = self.data, self.data.outputs, out / "model.onnx"
        target.unlink(missing_ok=True)
        some = self.read(parity.pick(data, 2))
        one = task(data.task, f"{data.root}/card.json").exclusive
        taken = None if self.model.dense or not one else examine(given, data, threads)
        with atomic(target) as temporary:
            given.write(temporary, {}, some, labels, threads)
            made = self.record(given, temporary, calibrated)
            given.write(temporary, metadata(made, data.card), some, labels, threads)
            forward = given.forward(labels, threads)
            result = parity.check(temporary, forward, data, made, cfg.parity, cfg.runtime, threads)
            result = result.model_copy(update={"taken": taken})
            result.write(out / "parity.json")
            if not result.passed or result.onnx_vs_torch is None:
                raise UserError(
                    f"{self.file} computes something else once it takes images as they are stored: {'; '.join(result.failures)}. "
                    "Tolerances: config/export/."
                )
        made.write(built / "recipe.json")
        for doubt in taken.doubts if taken else ():
            log.warning("%s: %s", self.file, doubt)
        return {
            **parity.figures(result.onnx_vs_torch, result.spread, target),
            **({"correct": taken.correct, "doubts": float(len(taken.doubts))} if taken else {}),
        }

    def record(self, given: Given, written: Path, calibrated: np.ndarray) -> Recipe:
        """Return what is known of how the file was made."""
        data, recipe = self.data, self.recipe
        graph = load("edgeward.runtimes", self.taker, "graph", "config/export/ (key 'runtime')")
        facts = graph.read_graph(written, given.batch or 1)
        channels = facts.input_shape[1]
        scale, bias = given.affine(channels)
        producer = " ".join(given.producer).strip()
        sha = fingerprint(self.read, calibrated) if len(calibrated) else None
        meta = ModelMeta(
            model=self.model.model_dump(mode="json"),
            task=data.task,
            spatial_dims=data.spatial_dims,
            num_classes=len(data.classes),
            n_labels=len(self.data.outputs),
            in_chans=channels,
            image_size=facts.input_shape[2:],
            mean=(-bias / scale / 255).tolist(),
            std=(1 / scale / 255).tolist(),
            classes=data.classes,
            logit_shift=self.shift(given),
            data=data.card.name,
            seed=self.seed,
        )
        return Recipe(
            recipe=recipe.name,
            steps=[],
            precision=facts.precision if facts.precision in PRECISIONS else "other",
            backend=given.producer[0] or "unknown",
            versions={"producer": producer or "unknown"},
            scheme={} if recipe.quantize is None else recipe.quantize.model_dump(mode="json"),
            calibration=Calibrated(n=len(calibrated), sha256=sha),
            keep_float=[],
            quantized_parameter_share=facts.integers / max(1, facts.parameters),
            effects=[],
            parameters=facts.parameters,
            program_bytes=given.path.stat().st_size,
            meta=meta,
            found={"file": self.file.name, "sha256": sha256(self.file)},
        )
