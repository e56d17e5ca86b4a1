"""Threshold or discrimination: what compression changes, what alignment gives back, what training on does, over the seeds of a sweep.

Run it in the folder of a finished sweep ``decisions`` or ``decisions_ham10000``::

    python benchmarks/decisions.py --data phantom --models mobilenetv3_small efficientformerv2_s0 ssd_xs \\
        --recipes fp32 finetuned ptq_int8 qat_int8 safe_qat_int8

It prints a table of every model and writes ``{data}.csv`` into ``--out``. Rows named ``.. + align`` are
the recipe with its decision borders put where they call each class as often on validation as fp32 does: constants on the logits, so that
they follow from what `assess` keeps of every case, to the last decision as the step `align_decisions` ships them
(``--check`` compares them with recipes that ship it). ``--across`` compares the models, too, as for the sweep ``pretrained``::

    python benchmarks/decisions.py --data ham10000_128 --models efficientnet_lite0 efficientnet_lite0_imagenet \
        --recipes fp32 ptq_int8 qat_int8 --across
"""

from __future__ import annotations

import argparse
import csv
from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
import yaml

from edgeward.core.text import fixed
from edgeward.data.store import Prepared, open_prepared
from edgeward.pipeline.paths import Assess, Prepare
from edgeward.records.base import Interval
from edgeward.records.safety import Verdict
from edgeward.safety.comparison import assess
from edgeward.safety.config import SafetyGroup, StudyConfig
from edgeward.safety.stage import fingerprint, load
from edgeward.statistics.bootstrap import resample
from edgeward.statistics.seeds import combine
from edgeward.tasks.assessment import Key
from edgeward.tasks.multiclass.assess import Arm
from edgeward.tasks.multiclass.fixed import Labelled

WHOLE = ("balanced_accuracy", "auc_macro", "ece", "ece_temperature_scaled")
Family = dict[str, list[Arm]]


def aligned(arm: Arm, reference: Arm) -> Arm:
    """Return a model with the decision borders of its reference; its probabilities stay as they are."""
    found = arm.aligned(reference)
    assert found is not None
    assert arm.val is not None
    offsets = found.offsets.astype(np.float32)
    val = Labelled(arm.val.logits + offsets, arm.val.labels)
    return Arm(arm.cases, arm.cfg, arm.logits + offsets, arm.shift - offsets, arm.temperature, val)


def read(
    data: Prepared, model: str, seeds: Sequence[int], recipes: Sequence[str], cfg: StudyConfig
) -> Family:
    """Return recipe -> a model of each seed, those with aligned borders beside them."""
    sha256 = fingerprint(data)
    found: Family = {}
    for recipe in recipes:
        for seed in seeds:
            folder = Assess(data.card.name, model, seed, recipe).folder
            arm = load(folder, data, cfg, sha256)
            assert isinstance(arm, Arm)
            found.setdefault(recipe, []).append(arm)
    for recipe in recipes[1:]:
        pairs = zip(found[recipe], found[recipes[0]], strict=True)
        found[f"{recipe} + align"] = [aligned(arm, before) for arm, before in pairs]
    return found


class Seeds:
    """Metrics of a family over its seeds, and over resamples of the cases; the same resamples for every family of one data set.

    Attributes
    ----------
    keys : of the metrics. first : the reference recipe.
    """

    def __init__(self, family: Family, cfg: StudyConfig) -> None:
        self.family, self.cfg, self.first = family, cfg, next(iter(family))
        self.cases = family[self.first][0].cases
        self.keys = [Key(name) for name in WHOLE]
        self.keys += [Key(name, of) for name in ("recall", "auc") for of in self.cases.classes]
        arms = {
            f"{recipe}/{i}": arm for recipe, mine in family.items() for i, arm in enumerate(mine)
        }
        self._drawn = resample(arms, self.cases.labels, self.cases.groups, cfg.resamples, cfg.seed)

    def _plain(self, recipe: str, key: Key) -> tuple[np.ndarray, np.ndarray]:
        mine = self.family[recipe]
        values = np.array([arm.value(key) for arm in mine])
        return values, np.stack([self._drawn[f"{recipe}/{i}"][key] for i in range(len(mine))])

    def cost(self, recipe: str, key: Key) -> tuple[np.ndarray, np.ndarray]:
        """Return values of the seeds and their resamples: the reference's own, or what a recipe changes of them."""
        values, replicates = self._plain(recipe, key)
        if recipe == self.first:
            return values, replicates
        before = self._plain(self.first, key)
        return values - before[0], replicates - before[1]

    def interval(self, recipe: str, key: Key, less: Seeds | None = None) -> Interval:
        """Return what `cost` is in the mean; `less`: less that of another family."""
        terms = [(1.0, *self.cost(recipe, key))]
        if less is not None:
            terms.append((-1.0, *less.cost(recipe, key)))
        least = 0.0 if recipe == self.first and less is None else -1.0
        return combine(terms, self.cases.n_groups(), self.cfg.confidence_level, least)


def compared(seeds: Seeds) -> dict[str, dict[Key, Interval]]:
    """Return differences to the first recipe, seed by seed, with intervals for seeds and cases; of the first its values."""
    return {r: {key: seeds.interval(r, key) for key in seeds.keys} for r in seeds.family}


def across(seeds: Mapping[str, Seeds], recipes: Sequence[str]) -> dict[str, dict[Key, Interval]]:
    """Return how models differ from the first: the reference in itself, each recipe in what it costs (a difference of differences)."""
    (_, base), *others = seeds.items()
    return {
        f"{model}, {recipe}": {key: mine.interval(recipe, key, less=base) for key in mine.keys}
        for model, mine in others
        for recipe in recipes
    }


def verdicts(family: Family, cfg: StudyConfig) -> dict[str, list[Verdict]]:
    """Return the verdict on each recipe and seed."""
    first, *others = family
    return {
        recipe: [
            assess(arm, before, cfg)[1]
            for arm, before in zip(family[recipe], family[first], strict=True)
        ]
        for recipe in others
    }


def shown(value: Interval, signed: bool) -> str:
    """Format an estimate with its interval."""
    estimate, low, high = (fixed(v, 3, signed=signed) for v in value)
    return f"{estimate} [{low}, {high}]"


def told(classes: Sequence[str]) -> list[Key]:
    """Return the metrics of the printed tables."""
    return [*(Key(name) for name in WHOLE[:3]), *(Key("recall", k) for k in classes)]


def tables(
    model: str,
    found: Mapping[str, Mapping[Key, Interval]],
    judged: Mapping[str, list[Verdict]],
    classes: list[str],
) -> None:
    """Print what a network loses and gets back."""
    first = next(iter(found))
    names = told(classes)
    heads = ["balanced accuracy", "AUC", "ECE", *classes]
    print(f"\n### {model}: recall of each class, and the whole\n")
    print(f"| recipe | verdicts | {' | '.join(heads)} |\n|{'---|' * (len(heads) + 2)}")
    for recipe, values in found.items():
        words = Counter(v.verdict for v in judged.get(recipe, []))
        counts = ", ".join(f"{n} {word}" for word, n in words.items())
        cells = [shown(values[key], recipe != first) for key in names]
        print(f"| {recipe} | {counts} | {' | '.join(cells)} |")
    print(f"\n### {model}: AUC of each class\n")
    print(f"| recipe | {' | '.join(classes)} |\n|{'---|' * (len(classes) + 1)}")
    for recipe, values in found.items():
        if not recipe.endswith(
            "+ align"
        ):  # constants on the logits leave the probabilities as they are
            print(
                f"| {recipe} | {' | '.join(shown(values[Key('auc', k)], recipe != first) for k in classes)} |"
            )
    print(f"\n### {model}: why recall fell (classes x seeds)\n")
    print("| recipe | fell for sure | threshold | discrimination | open |\n|---|---|---|---|---|")
    for recipe, mine in judged.items():
        fell = [d for v in mine for d in v.decisions if (d.difference.high or 0) < 0]
        why = Counter(d.cause for d in fell)
        print(
            f"| {recipe} | {len(fell)} | {why['threshold']} | {why['discrimination']} | {why['open']} |"
        )


def check(
    family: Family, data: Prepared, model: str, seeds: Sequence[int], cfg: StudyConfig
) -> None:
    """Compare the aligned decisions with those of the recipes that ship the alignment, where they were run."""
    sha256 = fingerprint(data)
    for recipe, arms in family.items():
        for seed, arm in zip(seeds, arms, strict=True):
            folder = Assess(
                data.card.name, model, seed, f"{recipe.partition(' ')[0]}_aligned"
            ).folder
            if recipe.endswith("+ align") and folder.is_dir():
                other = load(folder, data, cfg, sha256)
                same = np.mean(arm.changed(other) == 0)  # type: ignore[arg-type]
                print(
                    f"{model} {recipe}, seed {seed}: {same:.4%} of decisions as {folder.parent.name} ships them"
                )


def lines(
    data: str, model: str, recipe: str, words: str, values: Mapping[Key, Interval]
) -> list[list[object]]:
    """Return the rows of the CSV."""
    return [
        [data, model, recipe, words, str(key), *(f"{v:.6f}" for v in value), value.n]
        for key, value in values.items()
    ]


def main() -> None:
    """Print the tables and write the CSV."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--data", required=True)
    parser.add_argument("--models", nargs="+", required=True)
    parser.add_argument("--recipes", nargs="+", required=True, help="the reference first")
    parser.add_argument("--seeds", nargs="+", type=int, default=[0, 1, 2])
    parser.add_argument("--out", type=Path, default=Path())
    parser.add_argument("--check", action="store_true")
    parser.add_argument("--across", action="store_true", help="compare the models, too")
    args = parser.parse_args()
    data = open_prepared(Prepare(args.data).folder)
    rows: list[list[object]] = []
    seeds: dict[str, Seeds] = {}
    for model in args.models:
        config = Assess(args.data, model, args.seeds[0], args.recipes[-1]).config
        cfg = SafetyGroup.model_validate(yaml.safe_load(config.read_text())["safety"])
        family = read(data, model, args.seeds, args.recipes, cfg)
        seeds[model] = Seeds(family, cfg)
        found, judged = compared(seeds[model]), verdicts(family, cfg)
        tables(model, found, judged, data.classes)
        if args.check:
            check(family, data, model, args.seeds, cfg)
        for recipe, values in found.items():
            words = " ".join(v.verdict for v in judged.get(recipe, []))
            rows += lines(args.data, model, recipe, words, values)
    if args.across:
        between = across(seeds, args.recipes)
        print(
            f"\n### less {args.models[0]}; of recipes: what they cost, less what they cost there\n"
        )
        names = told(data.classes)
        print(f"| | {' | '.join(map(str, names))} |\n|{'---|' * (len(names) + 1)}")
        for name, values in between.items():
            print(f"| {name} | {' | '.join(shown(values[key], True) for key in names)} |")
            model, recipe = name.split(", ")
            rows += lines(args.data, f"{model} - {args.models[0]}", recipe, "", values)
    args.out.mkdir(parents=True, exist_ok=True)
    with (args.out / f"{args.data}.csv").open("w", newline="") as handle:
        writer = csv.writer(handle, lineterminator="\n")
        writer.writerow(
            ["data", "model", "recipe", "verdicts", "metric", "estimate", "low", "high", "seeds"]
        )
        writer.writerows(rows)


if __name__ == "__main__":
    main()
