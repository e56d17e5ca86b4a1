"""Latency of networks against the size of the image, fp32 and INT8, all in turns: ``python benchmarks/latency_by_size.py --out by_size.csv``.

Untrained networks, since latency does not depend on the values of weights; calibration sees random images. On every device and at every
size all files take turns in one process, so a line's ratio, the time of the first network in fp32 over its own, survives a noisy machine.
A network that has settings of its own at a size gets them with ``--options``: ``efficientvim_xs@64:halvings=2``. ``--draw FIGURE`` draws
a finished table instead.
"""

from __future__ import annotations

import argparse
import csv
import sys
import tempfile
from pathlib import Path

import torch
from kernel_costs import Case
from matplotlib.figure import Figure
from matplotlib.ticker import FixedLocator

from edgeward.core import svg
from edgeward.core.palette import LIGHT, series
from edgeward.export.config import export_config
from edgeward.models.config import ModelConfig
from edgeward.pipeline.compose import compose, roots
from edgeward.profiling.config import ProfileConfig
from edgeward.profiling.kernels import open_bench
from edgeward.reporting.figures.common import MARKERS, WIDTH, logarithmic

NETWORKS = ["mobileone_s0", "mobilenetv3_small", "efficientformerv2_s0", "mobilevit_xxs", "ssd_xs", "efficientvim_xs"]  # fmt: skip
FIELDS = ("runtime", "size", "network", "recipe", "ms", "speedup", "low", "high", "refused")


def case_of(name: str, size: int, options: list[str]) -> Case:
    """Return an untrained network for images of `size` pixels, under its name with what is changed of it."""
    changed = [text for given in options if (text := _of(given, name, size))]
    overrides = [f"+model.options.{text}" for text in changed]
    names = {"data": "phantom", "model": name, "recipe": "fp32", "device": "host"}
    model = ModelConfig.model_validate(compose(roots(), names, overrides)["model"])
    case = Case.of(model, size)
    return Case(" ".join([name, *changed]), case.example, case.graph, case.reference, case.ptq)


def _of(given: str, name: str, size: int) -> str | None:
    """Return the setting of an option that is meant for this network at this size."""
    place, _, setting = given.partition(":")
    return setting if place == f"{name}@{size}" else None


def draw(table: Path, to: Path) -> None:
    """Draw how many times faster than the first network in fp32 each file is, against the size of the image."""
    with table.open(newline="") as source:
        rows = [row for row in csv.DictReader(source) if row["speedup"]]
    names = list(dict.fromkeys(row["network"].split()[0] for row in rows))
    runtimes = list(dict.fromkeys(row["runtime"] for row in rows))
    with svg.style():
        figure = Figure(figsize=(WIDTH, 4.2), layout="constrained")
        panels = figure.subplots(1, len(runtimes), sharey=True, squeeze=False)[0]
        for axes, runtime in zip(panels, runtimes, strict=True):
            for number, name in enumerate(names):
                for recipe, dashes in (("fp32", "-"), ("ptq_int8", "--")):
                    mine = [
                        (int(row["size"]), float(row["speedup"]))
                        for row in rows
                        if (row["runtime"], row["network"].split()[0], row["recipe"]) == (runtime, name, recipe)
                    ]  # fmt: skip
                    axes.plot(*zip(*mine, strict=True), dashes, marker=MARKERS[number], ms=5, lw=1.3,
                              color=LIGHT[series(1 + number)], label=f"{name}, {recipe}") if mine else None  # fmt: skip
            axes.set(title=runtime, xscale="log", yscale="log", xlabel="Side of the image, pixels")
            logarithmic(axes.xaxis)
            axes.xaxis.set_major_locator(FixedLocator(sorted({int(row["size"]) for row in rows})))
            logarithmic(axes.yaxis)
        panels[0].set(ylabel=f"Times as fast as {names[0]} in fp32")
        figure.legend(*panels[0].get_legend_handles_labels(), loc="outside right upper")
        to.write_text(
            svg.standalone(figure, f"Speed against {names[0]} in fp32, by the size of the image.")
        )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)  # fmt: skip
    parser.add_argument("--networks", nargs="+", default=NETWORKS, help="the first is the measure")
    parser.add_argument("--devices", nargs="+", default=["host", "host_openvino"])
    parser.add_argument("--sizes", nargs="+", type=int, default=[64, 128, 224, 384, 512])
    parser.add_argument("--options", nargs="*", default=[], metavar="NETWORK@SIZE:KEY=VALUE")
    parser.add_argument("--rounds", type=int, default=41)
    parser.add_argument("--out", type=Path, help="the table; without it, on the terminal")
    parser.add_argument("--draw", type=Path, metavar="FIGURE", help="draw the table --out as SVG")
    options = parser.parse_args()
    if options.draw:
        draw(options.out, options.draw)
        return
    torch.set_num_threads(1)
    with options.out.open("w") if options.out else sys.stdout as target:
        table = csv.writer(target, lineterminator="\n")
        table.writerow(FIELDS)
        for size in options.sizes:
            first, *others = [case_of(name, size, options.options) for name in options.networks]
            for device in options.devices:
                run = compose(roots(), {"data": "phantom", "model": first.name, "recipe": "fp32", "device": device})  # fmt: skip
                turns = {**run["profile"]["interleave"], "rounds": options.rounds}
                cfg = ProfileConfig.model_validate(
                    {**run["profile"], "interleave": turns, "deadline_s": 3600}
                )
                lines = [(first, "ptq_int8", first.ptq)]
                lines += [(c, r, p) for c in others for r, p in (("fp32", c.reference), ("ptq_int8", c.ptq))]  # fmt: skip
                with tempfile.TemporaryDirectory() as folder:
                    record = Path(folder) / "kernels.json"
                    with open_bench(cfg, export_config(run["export"]), record, {"input_range": [0, 255]}) as bench:  # fmt: skip
                        timed = bench.in_turns(first.reference, [program for _, _, program in lines])  # fmt: skip
                own = next((t.reference_ms for t in timed if t.reference_ms is not None), None)
                start = bench.runtime.name, size
                table.writerow([*start, first.name, "fp32", own and f"{own:.4f}", 1, 1, 1, ""])
                for (case, recipe, _), found in zip(lines, timed, strict=True):
                    if found.speedup is None:
                        table.writerow([*start, case.name, recipe, "", "", "", "", found.refused])
                        continue
                    speedups = (f"{s:.3f}" for s in found.speedup)
                    table.writerow(
                        [*start, case.name, recipe, f"{found.latency_ms:.4f}", *speedups, ""]
                    )
                target.flush()


if __name__ == "__main__":
    main()
