"""How long planning takes beside Snakemake itself: ``python benchmarks/planning.py [candidates ..]``.

For each number of candidates a sweep is planned (``snakemake -n``), and beside it a workflow of as many jobs in the same
graph whose rules know nothing but their wildcards. Processor time of each, the shorter of two turns.
"""

from __future__ import annotations

import argparse
import resource
import subprocess
import sys
import tempfile
from pathlib import Path

from edgeward.pipeline.home import PROJECT

MODELS = [
    "mobileone_s0",
    "mobileone_s1",
    "mobileone_s2",
    "mobileone_s3",
    "mobilevit_xxs",
    "mobilevit_xs",
    "mobilenetv3_small",
    "efficientformerv2_s0",
    "ssd_xs",
    "repvit_m0_9",
]
RECIPES = [
    "fp32",
    "ptq_int8",
    "ptq_int8_per_tensor",
    "ptq_int8_aligned",
    "qat_int8",
    "qat_int8_aligned",
    "prune_50",
    "prune_80",
    "low_rank",
    "structured_50",
]
PLAIN = """
MODELS, RECIPES, SEEDS = {models}, {recipes}, range({seeds})
AT = "r/{{m}}/{{s}}/{{r}}"
rule all:
    input: "r/page"
rule page:
    input: expand(f"{{AT}}/{{{{of}}}}", m=MODELS, r=RECIPES, s=SEEDS, of=["export", "profile", "assess"]), "r/pool", "r/turns"
    output: "r/page"
    shell: "touch {{output}}"
rule pool:
    input: expand(f"{{AT}}/assess", m=MODELS, r=RECIPES, s=SEEDS)
    output: "r/pool"
    shell: "touch {{output}}"
rule turns:
    input: expand(f"{{AT}}/export", m=MODELS, r=RECIPES, s=SEEDS), "r/ceilings"
    output: "r/turns"
    shell: "touch {{output}}"
rule ceilings:
    output: "r/ceilings"
    shell: "touch {{output}}"
rule prepare:
    output: "r/card"
    shell: "touch {{output}}"
rule train:
    input: "r/card"
    output: "r/{{m}}/{{s}}/model"
    shell: "touch {{output}}"
rule compress:
    input: "r/{{m}}/{{s}}/model", "r/card"
    output: f"{{AT}}/compress"
    shell: "touch {{output}}"
rule export:
    input: f"{{AT}}/compress", "r/card"
    output: f"{{AT}}/export"
    shell: "touch {{output}}"
rule profile:
    input: f"{{AT}}/export", "r/ceilings"
    output: f"{{AT}}/profile"
    shell: "touch {{output}}"
rule assess:
    input: lambda w: [f"r/{{w.m}}/{{w.s}}/{{w.r}}/export", "r/card"] + [f"r/{{w.m}}/{{w.s}}/fp32/assess"] * (w.r != "fp32")
    output: f"{{AT}}/assess"
    shell: "touch {{output}}"
"""
SWEEP = """
description: "planned, not run"
data: [phantom]
model: {models}
recipe: {recipes}
device: [host_quick]
seed: {seeds}
"""


def axes(candidates: int) -> tuple[list[str], list[str], int]:
    """Return models, recipes and the number of seeds of at least so many candidates."""
    models = MODELS[: max(1, min(10, candidates // 5))]
    recipes = RECIPES[: 5 if candidates < 100 else 10]
    return models, recipes, max(2, -(-candidates // (len(models) * len(recipes))))


def planned(folder: Path, *options: str) -> tuple[float, int]:
    """Return processor time, s, and the number of jobs of a dry run."""
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    done = subprocess.run(
        [sys.executable, "-m", "snakemake", "-n", "--quiet", "rules", *options],
        cwd=folder,
        capture_output=True,
        text=True,
    )
    if done.returncode:
        sys.exit(done.stdout + done.stderr)
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    text = done.stdout + done.stderr
    jobs = next(line.split()[1] for line in text.splitlines() if line.startswith("total"))
    spent = after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
    return spent, int(jobs)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("candidates", nargs="*", type=int, default=[10, 100, 1000])
    print(f"{'candidates':>10} {'jobs':>6} {'ours s':>7} {'plain s':>8} {'ratio':>6}")
    for asked in parser.parse_args().candidates:
        models, recipes, seeds = axes(asked)
        with tempfile.TemporaryDirectory() as name:
            plain, study = Path(name) / "plain", Path(name) / "study"
            plain.mkdir()
            (plain / "Snakefile").write_text(
                PLAIN.format(models=models, recipes=recipes, seeds=seeds)
            )
            (study / "config/sweeps").mkdir(parents=True)
            sweep = SWEEP.format(models=models, recipes=recipes, seeds=[*range(seeds)])
            (study / "config/sweeps/planned.yaml").write_text(sweep)
            snakefile = ["--snakefile", str(PROJECT / "Snakefile"), "--config", "sweep=planned"]
            turns = [(planned(study, *snakefile), planned(plain)) for _ in range(2)]
        (ours, jobs), (bare, others) = (min(side) for side in zip(*turns, strict=True))
        assert abs(jobs - others) <= 1, (jobs, others)
        count = len(models) * len(recipes) * seeds
        print(f"{count:10} {jobs:6} {ours:7.1f} {bare:8.1f} {ours / bare:6.2f}", flush=True)


if __name__ == "__main__":
    main()
