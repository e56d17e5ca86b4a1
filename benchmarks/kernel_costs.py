"""Do the times of operators foretell those of networks, and is what they place faster? ``python benchmarks/kernel_costs.py --out placement.csv``.

Of every network, untrained, on every device: its operators are timed in float and in integers (docs/safe-compression.md), and three files are
made: fp32, ptq_int8 as the rules of the engine place it, and fast_int8 as the times place it. Each integer file is timed in turns with fp32.
Ratios of fp32 to it are expected from the times of the operators, and measured, with the interval of the median over rounds.
Latency does not depend on the values of weights, so nothing is trained; calibration sees random images.
"""

from __future__ import annotations

import argparse
import copy
import csv
import sys
import tempfile
from pathlib import Path

import torch
from torch import nn
from torch.export import ExportedProgram
from torch.fx import GraphModule

from edgeward.compression import backend, numerics
from edgeward.compression.constraint.placement import place
from edgeward.compression.placing.network import read_network
from edgeward.export.config import export_config
from edgeward.models.config import ModelConfig
from edgeward.models.deploy import Deployable, reparameterize
from edgeward.models.factory import build
from edgeward.models.program import export_program
from edgeward.pipeline.compose import compose, roots
from edgeward.profiling.config import ProfileConfig
from edgeward.profiling.kernels import DeviceBench, open_bench

NETWORKS = ["mobilenetv3_small", "mobilevit_xxs", "mobileone_s0", "efficientformerv2_s0", "ssd_xs", "u_lite"]  # fmt: skip
FIELDS = (
    *("network", "runtime", "recipe", "speedup", "low", "high", "expected", "ships", "operators", "integer"),
    *("fp32_ms", "fp32_operators_ms", "noise"),
)  # fmt: skip
CLASSES, CHANNELS = 7, 3


def quantized(
    graph: GraphModule, example: torch.Tensor, floating: list[str] | None
) -> ExportedProgram:
    """Return the integer form of a network, with ranges of one random batch."""
    prepared = backend.prepare_ptq(
        copy.deepcopy(graph),
        example,
        observer="minmax",
        reduce_range=False,
        granularity="per_channel",
        keep_float=[],
        floating=floating,
    )
    with torch.no_grad():
        prepared(example)
    converted = backend.convert(prepared)
    numerics.quantize_biases(converted)
    return export_program(converted, example)


def network(model: ModelConfig, size: int) -> nn.Module:
    """Return an untrained network in single-branch form."""
    torch.manual_seed(0)
    classes = 2 if model.dense else CLASSES
    net = build(model, num_classes=classes, in_chans=CHANNELS, image_size=[size, size])
    return reparameterize(Deployable(net, [128.0] * CHANNELS, [64.0] * CHANNELS, 2).eval())


def rows(name: str, module: nn.Module, example: torch.Tensor, bench: DeviceBench) -> list[list[object]]:  # fmt: skip
    """Return the lines of the table of one network on one device."""
    graph = backend.capture(module, example)
    units = read_network(graph, [])
    problem = units.problem(bench.costs(units.asked))
    rules = place(graph, []).integer
    placements = {
        "ptq_int8": [unit.name in rules for unit in units.units],
        "fast_int8": problem.fastest(),
    }
    floats = problem.time([False] * len(units.units)) / 1e3
    reference = export_program(module, example)
    found: list[list[object]] = []
    for recipe, placed in placements.items():
        names = [u.name for u, integer in zip(units.units, placed, strict=True) if not integer]
        if not any(placed):
            found.append([name, bench.engine, recipe, 1, 1, 1, 1, "fp32", len(placed), 0, "", f"{floats:.4f}", ""])  # fmt: skip
            continue
        program = quantized(graph, example, None if recipe == "ptq_int8" else names)
        timed = bench.in_turns(reference, program)
        if timed.ratio is None or timed.reference_ms is None:
            found.append([name, bench.engine, recipe, "", "", "", "", "refused", len(placed), sum(placed), "", f"{floats:.4f}", timed.refused])  # fmt: skip
            continue
        ratio, low, high = timed.ratio
        assert low is not None
        assert high is not None
        saved = floats - problem.time(placed) / 1e3
        ships = "fp32" if recipe == "fast_int8" and low > 1 else "int8"
        found.append(
            [
                *(name, bench.engine, recipe, f"{1 / ratio:.3f}", f"{1 / high:.3f}", f"{1 / low:.3f}"),
                *(f"{1 / (1 - saved / timed.reference_ms):.3f}", ships, len(placed), sum(placed)),
                *(f"{timed.reference_ms:.4f}", f"{floats:.4f}", f"{(high - low) / ratio:.3f}"),
            ]
        )  # fmt: skip
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)  # fmt: skip
    parser.add_argument("--networks", nargs="+", default=NETWORKS)
    parser.add_argument("--devices", nargs="+", default=["host", "host_openvino"])
    parser.add_argument("--size", type=int, default=64, help="side of the images, pixels")
    parser.add_argument("--rounds", type=int, default=61, help="rounds of a comparison in turns")
    parser.add_argument("--known", type=Path, help="folder of the times, to go on with")
    parser.add_argument("--out", type=Path, help="the table; without it, on the terminal")
    options = parser.parse_args()
    torch.set_num_threads(1)
    folder = options.known or Path(tempfile.mkdtemp())
    example = torch.rand(2, CHANNELS, options.size, options.size) * 255
    with options.out.open("w") if options.out else sys.stdout as target:
        table = csv.writer(target, lineterminator="\n")
        table.writerow(FIELDS)
        for name in options.networks:
            for device in options.devices:
                names = {"data": "phantom", "model": name, "recipe": "fp32", "device": device}
                run = compose(roots(), names)
                turns = {**run["profile"]["interleave"], "rounds": options.rounds}
                cfg = ProfileConfig.model_validate({**run["profile"], "interleave": turns})
                module = network(ModelConfig.model_validate(run["model"]), options.size)
                record = folder / f"{device}.kernels.json"
                with open_bench(cfg, export_config(run["export"]), record, {"input_range": [0, 255]}) as bench:  # fmt: skip
                    table.writerows(rows(name, module, example, bench))
                target.flush()


if __name__ == "__main__":
    main()
