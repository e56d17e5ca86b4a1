"""What the order in which a network reads its tokens costs on a device.

    python benchmarks/scan_orders.py --out results/benchmarks

Untrained networks of `order` raster, bidirectional, cross and wavefront (the same parameters), exported as the
workflow exports them and timed in turns in one process on one thread; the ratio is to raster. Memory is the
growth of a fresh process that loads the file and runs it once. ``--case NAME:DIMS:SIDE`` chooses networks of
config/model/ that have the option, and the size of their input. Exporting takes most of the time: three minutes of
a core for the default, LightM-UNet on volumes of 16x16x16.
"""

from __future__ import annotations

import argparse
import json
import logging
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

import numpy as np
import onnx

from edgeward.compression.config import RecipeConfig
from edgeward.core.io import read_json, write_json
from edgeward.export.config import export_config
from edgeward.models.config import ModelConfig
from edgeward.pipeline.compose import compose
from edgeward.profiling import interleave
from edgeward.profiling.agent.conditions import peak_bytes
from edgeward.profiling.config import ProfileConfig
from edgeward.runtimes.session import open_session
from edgeward.scaling.config import ScalingConfig
from edgeward.scaling.stage import export_size

ROOT = Path(__file__).resolve().parents[1] / "config"
ORDERS = ("raster", "bidirectional", "cross", "wavefront")
CASES = ("lightm_unet_w8:3:16",)
DATA = {2: "phantom_masks_tiny", 3: "phantom3d_tiny"}
CHANNELS = {2: 3, 3: 1}
# Untrained, LightM-UNet in float32 is 1 % of its logits' spread away from itself in float64, as a file or in torch;
# trained it is not (export.parity).
TO_SPREAD = 0.03


def memory(model: Path) -> float:
    """Return by how many MB this process grows when it loads a model and runs it once."""
    before = peak_bytes()
    session = open_session(model, 1)
    session.run(np.zeros([1, *session.shape], dtype=np.float32))
    return (peak_bytes() - before) / 1e6


def scans(graph: onnx.GraphProto) -> int:
    """Return how many recurrences a graph has; a Scan in the body of a Scan is part of it."""
    return sum(node.op_type == "Scan" for node in graph.node)


def export(name: str, dims: int, side: int, order: str, folder: Path) -> dict[str, Any]:
    """Export one network in one order; return the facts of it, with the path as ``file``."""
    choices = {"data": DATA[dims], "model": name, "recipe": "fp32", "device": "host"}
    overrides = [f"model.options.order={order}", f"export.parity.fp32.to_spread={TO_SPREAD}"]
    config = compose((ROOT,), choices, overrides)
    folder.mkdir(parents=True)
    changes = {"spatial_dims": dims, "channels": CHANNELS[dims], "classes": 1, "batch": 2}
    facts = export_size(
        ModelConfig.model_validate(config["model"]),
        RecipeConfig.model_validate(config["compress"]),
        export_config(config["export"]),
        ScalingConfig.model_validate(config["scaling"] | changes),
        size=side,
        out=folder,
        threads=1,
    )
    if facts.status == "refused":
        raise SystemExit(f"{name}: {facts.reason}")
    file = folder / "model.onnx"
    command = [sys.executable, __file__, "--memory", str(file)]
    done = subprocess.run(command, stdout=subprocess.PIPE, check=True, text=True)
    return {
        "model": name, "input": "x".join([str(side)] * dims), "order": order, "file": str(file),
        "parameters": facts.parameters, "scans": scans(onnx.load(file).graph),
        "memory_mb": json.loads(done.stdout), "file_mb": file.stat().st_size / 1e6,
    }  # fmt: skip


def measure(cases: list[str], rounds: int, folder: Path) -> list[dict[str, Any]]:
    """Export every case in every order and time the orders in turns."""
    device = compose((ROOT,), {"data": DATA[2], "model": "u_lite", "recipe": "fp32"})["profile"]
    turns = {"interleave": {"rounds": rounds, "settle": 1, "block": 1}, "deadline_s": 1200}
    cfg = ProfileConfig.model_validate(device | turns)
    found = []
    for case in cases:
        name, dims, side = case.split(":")
        rows = []
        for order in ORDERS:
            where = folder / case.replace(":", "_") / order
            rows.append(export(name, int(dims), int(side), order, where))
            print(f"{case} {order}: exported", file=sys.stderr, flush=True)
        group = [
            {"data": "untrained", "model": name, "seed": 0, "recipe": r["order"], "file": r["file"]}
            for r in rows
        ]
        interleave.run(cfg, [group], out=folder / "turns.json")
        timed = read_json(folder / "turns.json")["groups"][0]["candidates"]
        found += [{**r, **t, "model": name} for r, t in zip(rows, timed, strict=True)]
    return found


def table(rows: list[dict[str, Any]]) -> str:
    """Return the rows as Markdown."""
    head = ["network", "input", "order", "parameters", "scans", "p50 ms", "x raster", "MB"]
    lines = ["| " + " | ".join(head) + " |", "|" + "---|" * len(head)]
    for r in rows:
        ratio, latency = r["ratio"], r["latency_ms"]["estimate"]
        times = f"{ratio['estimate']:.2f} [{ratio['low']:.2f}, {ratio['high']:.2f}]"
        mark = "" if r["verdict"] == "VALID" else " INVALID"
        lines.append(
            f"| `{r['model']}` | {r['input']} | {r['order']} | {r['parameters']:,} | {r['scans']} | "
            f"{latency:.1f} | {'1' if r['order'] == 'raster' else times}{mark} | {r['memory_mb']:.0f} |"
        )
    return "\n".join(lines) + "\n"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--case", nargs="+", default=CASES, metavar="NAME:DIMS:SIDE")
    parser.add_argument("--rounds", type=int, default=11, help="each times every order once")
    parser.add_argument("--out", type=Path, default=Path("results/benchmarks"))
    parser.add_argument("--memory", type=Path, help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.memory:
        print(memory(args.memory))
        return
    logging.basicConfig(level=logging.WARNING)
    with tempfile.TemporaryDirectory() as folder:
        rows = measure(list(args.case), args.rounds, Path(folder))
    write_json(args.out / "scan_orders.json", rows)
    print(table(rows))


if __name__ == "__main__":
    main()
