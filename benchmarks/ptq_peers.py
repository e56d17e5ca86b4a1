"""Post-training quantization beside that of its peers: ``python benchmarks/ptq_peers.py --data phantom --models mobilenetv3_small --out peers.csv``.

Of trained networks, for which a finished sweep has `fp32` and `ptq_int8`: onnxruntime's own quantizer and NNCF's get the same fp32 file and the same calibration
images as `ptq_int8`, each with its defaults. Every file decides the test images in onnxruntime and in OpenVINO, and all files of a network take turns in one process on
each. Differences are to the fp32 file in onnxruntime, with 95 % intervals over resampled groups of cases; `unchanged` is the share of its decisions that stay.

NNCF is no dependency of the project: ``pip install nncf`` beside it, without what it would change (``--no-deps``; then what it asks for).
"""

from __future__ import annotations

import argparse
import csv
import json
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import onnx
import openvino
from scipy.special import softmax

from edgeward.data.store import Prepared, open_prepared, to_input
from edgeward.export.config import export_config
from edgeward.pipeline.compose import compose, roots
from edgeward.profiling.config import ProfileConfig
from edgeward.profiling.kernels import open_bench
from edgeward.runtimes.base import Timed
from edgeward.runtimes.onnxruntime.session import open_session
from edgeward.runtimes.onnxruntime.static import quantize
from edgeward.tasks.multiclass.train import macro_auc, recalls

DEVICES = ("host", "host_openvino")
FIELDS = (
    *("data", "network", "seed", "file", "engine", "auc", "auc_change", "auc_low", "auc_high"),
    *("balanced_accuracy", "balanced_change", "balanced_low", "balanced_high", "unchanged"),
    *("speedup", "speedup_low", "speedup_high", "seconds", "mb"),
)
BATCH, RESAMPLES = 64, 200
Forward = Callable[[np.ndarray], np.ndarray]


def calibration(data: Prepared) -> Iterator[np.ndarray]:
    """Yield the calibration images, one at a time, float32 (1, c, h, w) from 0 to 255."""
    for index in data.calibration:
        yield to_input(data.images[[index]])


def by_onnxruntime(method: str) -> Callable[[Path, Path, Prepared], None]:
    def made(path: Path, to: Path, data: Prepared) -> None:
        name = onnx.load(path).graph.input[0].name
        quantize(
            path, ({name: image} for image in calibration(data)), to,
            method=method, per_channel=True, reduce_range=False, operators=None,
        )  # fmt: skip

    return made


def by_nncf(path: Path, to: Path, data: Prepared) -> None:
    import nncf

    model = onnx.load(path)
    name = model.graph.input[0].name
    images = nncf.Dataset(list(calibration(data)), lambda image: {name: image})
    onnx.save_model(nncf.quantize(model, images, subset_size=len(data.calibration)), to)


PEERS = {
    "onnxruntime, minmax": by_onnxruntime("minmax"),
    "onnxruntime, percentile": by_onnxruntime("percentile"),
    "NNCF": by_nncf,
}


def in_onnxruntime(path: Path) -> Forward:
    return open_session(path, 1, fused=True).run


def in_openvino(path: Path) -> Forward:
    compiled = openvino.Core().compile_model(path, "CPU", {"INFERENCE_NUM_THREADS": 1})
    return lambda images: np.array(compiled(images)[0])


ENGINES = {"onnxruntime": in_onnxruntime, "openvino": in_openvino}


def logits_of(forward: Forward, data: Prepared, indices: np.ndarray) -> np.ndarray:
    """Return the logits of cases, float32 (n, classes)."""
    starts = range(0, len(indices), BATCH)
    parts = (to_input(data.images[indices[i : i + BATCH]]) for i in starts)
    return np.concatenate([forward(part) for part in parts])


def worth(logits: np.ndarray, shift: np.ndarray, labels: np.ndarray) -> np.ndarray:
    """Return macro AUC of the probabilities and balanced accuracy of the decisions."""
    found = recalls(logits.argmax(1), labels, logits.shape[1])
    return np.array([macro_auc(softmax(logits + shift, axis=1), labels), np.nanmean(found)])


def resamples(groups: np.ndarray, seed: int) -> Iterator[np.ndarray]:
    """Yield positions of cases whose groups were drawn with replacement."""
    _, member = np.unique(groups, return_inverse=True)
    order = np.argsort(member, kind="stable")
    starts = np.searchsorted(member[order], np.arange(member.max() + 2))
    rng = np.random.default_rng(seed)
    for _ in range(RESAMPLES):
        drawn = rng.integers(0, member.max() + 1, member.max() + 1)
        yield np.concatenate([order[starts[g] : starts[g + 1]] for g in drawn])


def in_turns(device: str, files: list[Path]) -> list[Timed]:
    """Time files in one process on a device; the first is the reference."""
    names = {"data": "phantom", "model": "mobileone_s0", "recipe": "fp32", "device": device}
    run = compose(roots(), names, ["profile.deadline_s=1200"])
    cfg = ProfileConfig.model_validate(run["profile"])
    with tempfile.TemporaryDirectory() as folder:
        record = Path(folder) / "kernels.json"
        with open_bench(cfg, export_config(run["export"]), record, {"input_range": [0, 255]}) as bench:  # fmt: skip
            return bench.files_in_turns(files)


def rows(data: Prepared, at: Path, folder: Path, timed: bool) -> Iterator[list[str]]:
    """Yield the lines of one trained network: file, engine and what follows."""
    fp32 = at / "fp32" / "export" / "model.onnx"
    files, seconds = {"fp32": fp32, "ptq_int8": at / "ptq_int8" / "export" / "model.onnx"}, {}
    for name, make in PEERS.items():
        files[name], since = folder / f"{len(files)}.onnx", time.process_time()
        make(fp32, files[name], data)
        seconds[name] = f"{time.process_time() - since:.1f}"
    indices = data.indices("test")
    labels, drawn = data.labels[indices], [*resamples(data.groups[indices], 0)]
    session = open_session(fp32, 1, fused=True)
    shift = np.array(json.loads(session.metadata()["logit_shift"]))
    reference = logits_of(session.run, data, indices)

    def of(logits: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Return what all cases say, and each resample of them."""
        each = [worth(logits[some], shift, labels[some]) for some in drawn]
        return worth(logits, shift, labels), np.array(each)

    base, bases = of(reference)
    for device, (engine, opened) in zip(DEVICES, ENGINES.items(), strict=True):
        speeds: dict[str, Timed] = {}
        if timed:
            speeds = dict(zip([*files][1:], in_turns(device, [*files.values()]), strict=True))
        for name, path in files.items():
            try:
                logits = logits_of(opened(path), data, indices)
            except Exception as error:
                yield [name, engine, f"refused: {str(error).splitlines()[0][:120]}"]
                continue
            there, each = of(logits)
            low, high = np.quantile(each - bases, [0.025, 0.975], axis=0)
            numbers = zip(there, there - base, low, high, strict=True)
            same = (logits.argmax(1) == reference.argmax(1)).mean()
            found = speeds[name].speedup if name in speeds else None
            fast = [""] * 3 if found is None else [f"{s:.3f}" for s in found]
            yield [
                *(name, engine),
                *(f"{value:.4f}" for measure in numbers for value in measure),
                *(f"{same:.4f}", *fast, seconds.get(name, ""), f"{path.stat().st_size / 1e6:.2f}"),
            ]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)  # fmt: skip
    parser.add_argument("--data", required=True, help="a folder below --results")
    parser.add_argument("--models", nargs="+", required=True)
    parser.add_argument("--seeds", nargs="+", type=int, default=[0, 1, 2])
    parser.add_argument("--results", type=Path, default=Path("results"))
    parser.add_argument("--no-times", action="store_true", help="accuracy alone")
    parser.add_argument("--out", type=Path, help="the table; without it, on the terminal")
    options = parser.parse_args()
    data = open_prepared(options.results / options.data / "prepare")
    with options.out.open("w") if options.out else sys.stdout as target:
        table = csv.writer(target, lineterminator="\n")
        table.writerow(FIELDS)
        for model in options.models:
            for seed in options.seeds:
                at = options.results / options.data / model / f"s{seed}"
                with tempfile.TemporaryDirectory() as folder:
                    for row in rows(data, at, Path(folder), not options.no_times):
                        table.writerow([options.data, model, seed, *row])
                        target.flush()


if __name__ == "__main__":
    main()
