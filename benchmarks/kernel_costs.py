"""Do the times of operators foretell those of networks, and is what they place faster? ``python benchmarks/kernel_costs.py --out placement.csv``.

Of every network, untrained, on every device: its operators are timed in float and in integers (docs/safe-compression.md), and three files are
made, which are timed in turns: fp32, ptq_int8 as the rules of the engine place it, and fast_int8 as the times place it.
Ratios of fp32 to it are expected from the times of the operators, and measured, with the interval of the median over rounds.
Latency does not depend on the values of weights, so nothing is trained; calibration sees random images.
"""

from __future__ import annotations

import argparse
import copy
import csv
import sys
import tempfile
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import nn
from torch.export import ExportedProgram
from torch.fx import GraphModule

from edgeward.compression import backend, numerics
from edgeward.compression.constraint.placement import place
from edgeward.compression.fusion import fuse
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


def untrained(model: ModelConfig, size: int, example: torch.Tensor) -> nn.Module:
    """Return an untrained network as the step `reparameterize` leaves it."""
    torch.manual_seed(0)
    classes = 2 if model.dense else CLASSES
    net = build(model, num_classes=classes, in_chans=CHANNELS, image_size=[size, size])
    deployable = Deployable(net, [128.0] * CHANNELS, [64.0] * CHANNELS, 2).eval()
    return fuse(reparameterize(deployable), example)[0]


@dataclass(frozen=True)
class Case:
    """A network, with what no device changes."""

    name: str
    example: torch.Tensor
    graph: GraphModule
    reference: ExportedProgram
    ptq: ExportedProgram

    @classmethod
    def of(cls, model: ModelConfig, size: int) -> Case:
        example = torch.rand(2, CHANNELS, size, size) * 255
        module = untrained(model, size, example)
        graph = backend.capture(module, example)
        ptq = quantized(graph, example, None)
        return cls(model.name, example, graph, export_program(module, example), ptq)  # fmt: skip


def rows(case: Case, bench: DeviceBench) -> list[list[object]]:
    """Return the lines of the table of one network on one device."""
    network = read_network(case.graph, [], bench.runtime.plain)
    units, problem = network.units, network.problem(bench.costs(network.asked))
    rules, fastest = place(case.graph, []).integer, problem.fastest()
    floating = [u.name for u, integer in zip(units, fastest, strict=True) if not integer]
    built = {"ptq_int8": ([u.name in rules for u in units], case.ptq)}
    if any(fastest):
        built["fast_int8"] = fastest, quantized(case.graph, case.example, floating)
    turns = bench.in_turns(case.reference, [program for _, program in built.values()])
    floats = problem.time([False] * len(units)) / 1e3
    fp32 = next((t.reference_ms for t in turns if t.reference_ms is not None), None)
    ms = "" if fp32 is None else f"{fp32:.4f}"
    start, end = [case.name, bench.runtime.name], [ms, f"{floats:.4f}"]
    found: list[list[object]] = [[*start, "fp32", 1, 1, 1, 1, "fp32", len(units), 0, *end, ""]]
    for (recipe, (placed, _)), timed in zip(built.items(), turns, strict=True):
        many = len(units), sum(placed)
        if timed.ratio is None or fp32 is None:
            found.append([*start, recipe, "", "", "", "", f"refused: {timed.refused}", *many, *end, ""])  # fmt: skip
            continue
        ratio, low, high = timed.ratio
        assert low is not None
        assert high is not None
        assert timed.speedup is not None
        ships = "fp32" if recipe == "fast_int8" and low > 1 else "int8"
        expected = 1 / (1 - (floats - problem.time(placed) / 1e3) / fp32)
        speedups = (f"{s:.3f}" for s in (*timed.speedup, expected))
        found.append([*start, recipe, *speedups, ships, *many, *end, f"{(high - low) / ratio:.3f}"])
    if not any(fastest):
        found.append([*start, "fast_int8", 1, 1, 1, 1, "fp32", len(units), 0, *end, ""])
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
    with options.out.open("w") if options.out else sys.stdout as target:
        table = csv.writer(target, lineterminator="\n")
        table.writerow(FIELDS)
        for name in options.networks:
            case = None
            for device in options.devices:
                names = {"data": "phantom", "model": name, "recipe": "fp32", "device": device}
                run = compose(roots(), names)
                turns = {**run["profile"]["interleave"], "rounds": options.rounds}
                cfg = ProfileConfig.model_validate({**run["profile"], "interleave": turns})
                case = case or Case.of(ModelConfig.model_validate(run["model"]), options.size)
                record = folder / f"{device}.kernels.json"
                with open_bench(cfg, export_config(run["export"]), record, {"input_range": [0, 255]}) as bench:  # fmt: skip
                    table.writerows(rows(case, bench))
                target.flush()


if __name__ == "__main__":
    main()
