"""What pruning and factorisation do to parameters, MACs and milliseconds, in onnxruntime.

    python benchmarks/real_speed.py --out results/benchmarks/real_speed

Networks with random weights go through the recipes of config/compress/ without their fine-tuning, and through
the export stage with its parity check: what is timed depends on shapes, not on what was learnt. With two
exceptions, stated here: low_rank with a budget gives every network the same MACs, but a trained one other
ranks; and zeros are as slow as other weights, so prune_80 is here as the control. Then the recipes of a
network take turns in one process on one thread (`interleave` of the device), and latency is given as
the ratio to fp32 with its interval. `--build-only` and `--measure-only` split the two, since only
the second needs a quiet machine.
"""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

from edgeward.core.io import read_json, write_json
from edgeward.pipeline.compose import compose

CONFIG = Path(__file__).resolve().parents[1] / "config"
MODELS = ("mobileone_s0", "mobilenetv3_small")
SIZES = (64, 224)
RECIPES = ("fp32", "prune_80", "structured_50", "low_rank")


def untrained(model: str, recipe: str, device: str, overrides: list[str]) -> dict[str, Any]:
    """Return the composed run, its recipe without fine-tuning."""
    choices = {"data": "phantom", "model": model, "recipe": recipe, "device": device}
    composed = compose((CONFIG,), choices, overrides)
    for step in composed["compress"]["steps"]:
        if "finetune" in step:
            step["finetune"] = None
    return composed


def build(out: Path, device: str) -> None:
    """Write ``model.onnx`` and ``build.json`` of every network, size and recipe that has none."""
    from edgeward.compression.config import RecipeConfig
    from edgeward.export.config import export_config
    from edgeward.models.config import ModelConfig
    from edgeward.runtimes.onnxruntime.graph import read_graph
    from edgeward.scaling.config import ScalingConfig
    from edgeward.scaling.stage import export_size

    for model in MODELS:
        for size in SIZES:
            for recipe in RECIPES:
                folder = out / model / str(size) / recipe
                if (folder / "build.json").is_file():
                    continue
                run = untrained(model, recipe, device, [])
                facts = export_size(
                    ModelConfig.model_validate(run["model"]),
                    RecipeConfig.model_validate(run["compress"]),
                    export_config(run["export"]),
                    ScalingConfig.model_validate(run["scaling"]),
                    size=size,
                    out=folder,
                    threads=1,
                )
                file = folder / "model.onnx"
                macs = read_graph(file, 1).macs
                write_json(
                    folder / "build.json",
                    facts.content() | {"macs": macs, "bytes": file.stat().st_size},
                )
                print(f"{model} {size} {recipe}: {facts.parameters} parameters, {macs} MACs")


def measure(out: Path, device: str, overrides: list[str]) -> None:
    """Time the recipes of each network and size in turns; write ``interleaved.json`` and the table."""
    from edgeward.profiling.config import ProfileConfig
    from edgeward.profiling.interleave import run

    cfg = ProfileConfig.model_validate(untrained(MODELS[0], "fp32", device, overrides)["profile"])
    groups = [
        [
            {
                "data": str(size),
                "model": model,
                "seed": 0,
                "recipe": recipe,
                "file": out / model / str(size) / recipe / "model.onnx",
            }
            for recipe in RECIPES
        ]
        for model in MODELS
        for size in SIZES
    ]
    run(cfg, groups, out=out / "interleaved.json")
    rows = [
        "| model | input | recipe | parameters | MACs | ms | x faster than fp32 | verdict |",
        "|---|---|---|---|---|---|---|---|",
    ]
    for group in read_json(out / "interleaved.json")["groups"]:
        for c in group["candidates"]:
            facts = read_json(out / c["model"] / c["data"] / c["recipe"] / "build.json")
            ratio = c["ratio"]
            ends = [ratio[key] for key in ("estimate", "high", "low")]
            if c["recipe"] == "fp32" or None in ends:
                faster = "1" if c["recipe"] == "fp32" else "?"
            else:
                faster = "{:.2f} [{:.2f}, {:.2f}]".format(*(1 / end for end in ends))
            rows.append(
                f"| {c['model']} | {c['data']} | {c['recipe']} | {facts.parameters / 1e6:.2f} M "
                f"| {facts['macs'] / 1e6:.1f} M | {c['latency_ms']['estimate']:.3f} | {faster} "
                f"| {c['verdict']} |"
            )
    (out / "table.md").write_text("\n".join(rows) + "\n")
    print("\n".join(rows))


def main() -> None:
    """Build, then measure."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--device", default="host", help="of config/profile/")
    parser.add_argument("--override", action="append", default=[], help="e.g. profile.threads=[1]")
    only = parser.add_mutually_exclusive_group()
    only.add_argument("--build-only", action="store_true")
    only.add_argument("--measure-only", action="store_true")
    args = parser.parse_args()
    if not args.measure_only:
        build(args.out, args.device)
    if not args.build_only:
        measure(args.out, args.device, args.override)


if __name__ == "__main__":
    main()
