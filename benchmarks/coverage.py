"""How often the intervals of `edgeward.safety` hold the truth: simulation with a known truth.

Run ``python benchmarks/coverage.py`` (about two minutes of one core; ``--trials`` for more). The
tables are those of docs/statistics.md.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable, Iterable
from functools import partial

import numpy as np

from edgeward.safety.comparison import assess
from edgeward.safety.config import SafetyGroup, StudyConfig
from edgeward.statistics import paired
from edgeward.statistics.bootstrap import resample
from edgeward.statistics.clusters import design_effect, pooled_correlation
from edgeward.statistics.intervals import tango, tango_statistic, wilson, z_value
from edgeward.tasks.assessment import Arm, Cases, Key, difference, interval
from edgeward.tasks.multiclass.assess import Arm as OfClasses
from edgeward.tasks.segmentation.assess import Arm as OfLabels
from edgeward.tasks.segmentation.assess import LabelMaps
from edgeward.tasks.segmentation.tables import Lesion, Overlap, Tables

LEVEL = 0.95
SIZES = np.array([1, 1, 1, 2, 2, 3, 4])  # images per group: mean 2, as in sets with repeat images


def clustered(rng: np.random.Generator, groups: int, repeat: bool) -> np.ndarray:
    """Return the group number of each image."""
    sizes = rng.choice(SIZES, groups) if repeat else np.ones(groups, dtype=int)
    return np.repeat(np.arange(groups), sizes)


def copied(
    rng: np.random.Generator, group: np.ndarray, icc: float, draw: Callable[[int], np.ndarray]
) -> np.ndarray:
    """Draw a value per image with the given intra-cluster correlation: some copy their group's draw."""
    own, shared = draw(len(group)), draw(group.max() + 1)
    return np.where(rng.random(len(group)) < np.sqrt(icc), shared[group], own)


def sides(intervals: Iterable[tuple[float, float]], truth: float) -> str:
    """Format the coverage, and on which side the misses lie, and the mean width."""
    low, high = np.array(list(intervals)).T
    held = np.mean((low <= truth + 1e-12) & (truth - 1e-12 <= high))
    above, below = np.mean(low > truth + 1e-12), np.mean(high < truth - 1e-12)
    return f"{held:6.3f} | {above:5.3f} | {below:5.3f} | {np.mean(high - low):5.3f}"


def successes(rng: np.random.Generator, p: float, n: int) -> np.ndarray:
    """Draw n independent successes with probability p."""
    return rng.random(n) < p


def recall(trials: int) -> None:
    """Sensitivity of a rare class beside a common one, with and without the design effect."""
    print("\n| groups | icc | recall | interval | coverage | low > truth | high < truth | width |")
    rng = np.random.default_rng(1)
    for groups, icc, p in (
        (12, 0.0, 0.6), (12, 0.5, 0.6), (30, 0.5, 0.6), (30, 0.5, 0.95), (100, 0.5, 0.6), (100, 0.5, 0.95),
    ):  # fmt: skip
        found: dict[str, list[tuple[float, float]]] = {"corrected": [], "plain": []}
        for _ in range(trials):
            rare, common = clustered(rng, groups, icc > 0), clustered(rng, 400, icc > 0)
            hit = copied(rng, rare, icc, partial(successes, rng, p))
            other = copied(rng, common, icc, partial(successes, rng, 0.9))
            pooled = pooled_correlation(
                np.concatenate([hit, other]).astype(float),
                np.repeat([0, 1], [len(rare), len(common)]),
                np.concatenate([rare, common + groups]),
            )
            d = design_effect(hit.astype(float), rare, pooled)
            found["corrected"].append(wilson(hit.sum() / d, len(hit) / d, LEVEL))
            found["plain"].append(wilson(hit.sum(), len(hit), LEVEL))
        for name, intervals in found.items():
            print(f"| {groups} | {icc} | {p} | {name} | {sides(intervals, p)} |")


def paired_recall(trials: int) -> None:
    """Difference of a rare class's recall; and the percentile bootstrap beside it, to see why not."""
    print(
        "\n| groups | icc | lost | gained | interval | coverage | low > truth | high < truth | width |"
    )
    rng = np.random.default_rng(2)
    for groups, icc, lost, gained in (
        (12, 0.0, 0.02, 0.02), (12, 0.5, 0.1, 0.05), (30, 0.0, 0.02, 0.02), (30, 0.5, 0.1, 0.05),
        (30, 0.5, 0.05, 0.0), (100, 0.5, 0.02, 0.02), (100, 0.5, 0.1, 0.05), (100, 0.5, 0.05, 0.0),
    ):  # fmt: skip
        found: dict[str, list[tuple[float, float]]] = {
            "Tango, corrected": [],
            "Tango, plain": [],
            "bootstrap": [],
        }

        def draw(n: int, lost: float = lost, gained: float = gained) -> np.ndarray:
            u = rng.random(n)
            return np.where(u < lost, -1.0, np.where(u > 1 - gained, 1.0, 0.0))

        for _ in range(trials):
            rare, common = clustered(rng, groups, icc > 0), clustered(rng, 400, icc > 0)
            change, other = copied(rng, rare, icc, draw), copied(rng, common, icc, draw)
            labels = np.repeat([0, 1], [len(rare), len(common)])
            row = paired.paired_share(
                np.concatenate([change < 0, other < 0]), np.concatenate([change > 0, other > 0]),
                labels, np.concatenate([rare, common + groups]), LEVEL, labels == 0,
            )  # fmt: skip
            found["Tango, corrected"].append((row.low, row.high))
            found["Tango, plain"].append(
                tango((change > 0).sum(), (change < 0).sum(), len(change), LEVEL)
            )
            sums, sizes = np.bincount(rare, change), np.bincount(rare)
            weights = rng.multinomial(groups, np.full(groups, 1 / groups), 400)
            replicates = (weights @ sums) / (weights @ sizes)
            low, high = np.quantile(replicates, [0.025, 0.975])
            found["bootstrap"].append((low, high))
        for name, intervals in found.items():
            print(
                f"| {groups} | {icc} | {lost} | {gained} | {name} | {sides(intervals, gained - lost)} |"
            )


def non_inferiority(many: int) -> None:
    """How often a rare class passes at the margin (should be <= 0.025), and with `cases_needed` cases."""
    rng = np.random.default_rng(3)
    margin, power = 0.05, 0.8
    print("\n| cases | lost | gained | true loss | passed |")
    for n in (40, 73, 100, 200, 400, 800):
        for lost, gained in ((0.05, 0.0), (0.10, 0.05), (0.20, 0.15)):
            share = passes(rng.multinomial(n, [lost, gained, 1 - lost - gained], many), n, margin)
            print(f"| {n} | {lost} | {gained} | {lost - gained:.2f} | {share:.3f} |")
    print("\n| discordance | cases needed | passed with these |")
    for psi in (0.0, 0.02, 0.05, 0.1, 0.2):
        seen = round(psi / 2 * 1000)
        row = paired.PairedShare(1000, 1000, seen, seen, 1.0, 0, 0)
        n = paired.cases_needed(row, 0.0, margin, LEVEL, power)
        share = passes(rng.multinomial(n, [psi / 2, psi / 2, 1 - psi], many), n, margin)
        print(f"| {psi} | {n} | {share:.3f} |")


def passes(counts: np.ndarray, n: int, margin: float) -> float:
    """Return the share of (lost, gained, same) counts, shape (trials, 3), that pass."""
    return float(np.mean(tango_statistic(-margin, counts[:, 1], counts[:, 0], n) > z_value(LEVEL)))


def draw_study(
    rng: np.random.Generator, per_class: np.ndarray
) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    """Draw a reference that is over-confident and a slightly worse model, on lesions of c classes."""
    labels_of = np.repeat(np.arange(len(per_class)), per_class)
    groups = clustered(rng, len(labels_of), True)
    labels = labels_of[groups]
    c = len(per_class)
    lesion = rng.normal(size=(len(labels_of), c))[groups]
    image = rng.normal(size=(len(labels), c))
    evidence = 1.6 * (labels[:, None] == np.arange(c)) + 0.7 * lesion + 0.7 * image
    reference = 2.0 * evidence + 0.5 * np.log(per_class / per_class.sum())
    compressed = 1.15 * (reference + 0.5 * rng.normal(size=evidence.shape))
    return reference, compressed, labels, groups


def study(trials: int, resamples: int, cfg: StudyConfig) -> None:
    """Everything that is reported, from the whole assessment, against a sample of 400,000 images."""
    zero, names = np.zeros(4), ["a", "b", "c", "d"]
    cfg = cfg.model_copy(update={"resamples": resamples})
    for per_class in ([100, 40, 20, 12], [400, 160, 80, 40]):
        rng = np.random.default_rng(4)

        def pair(counts: np.ndarray, rng: np.random.Generator = rng) -> tuple[Arm, Arm]:
            a, b, labels, groups = draw_study(rng, counts)
            cases = Cases(np.arange(len(labels)), labels, groups, names, ["d"])
            section = cfg.multiclass
            before, after = (OfClasses(cases, section, x, zero, 1.5) for x in (a, b))
            return before, after

        before, after = (
            describe_points(x) for x in pair(np.array(per_class) * (200_000 // sum(per_class)))
        )
        found: dict[tuple[str, str], list[tuple[float, float]]] = {}
        points: dict[tuple[str, str], list[float]] = {}
        truth = {}
        for trial in range(trials):
            reference, compressed = pair(np.array(per_class))
            safety, verdict = assess(compressed, reference, cfg.model_copy(update={"seed": trial}))
            for metric, value in safety.metrics.items():
                change = verdict.differences[metric]
                rows = {"value": tuple(value), "difference": tuple(change)}
                if change.bootstrap is not None:
                    rows["difference, bootstrap"] = (rows["difference"][0], *change.bootstrap)
                for what, (estimate, low, high) in rows.items():
                    key = (metric, what)
                    found.setdefault(key, []).append((low, high))
                    points.setdefault(key, []).append(estimate)
                    truth[key] = after[metric] - (before[metric] if what != "value" else 0.0)
        print(f"\nGroups per class {per_class}, 2 images a group:\n")
        print(
            "| metric | of | truth | mean, sd of estimates | coverage | low > truth | high < truth | width |"
        )
        for key, intervals in found.items():
            spread = f"{np.mean(points[key]):.4f}, {np.std(points[key]):.4f}"
            print(
                f"| {key[0]} | {key[1]} | {truth[key]:.4f} | {spread} | {sides(intervals, truth[key])} |"
            )


def describe_points(model: Arm) -> dict[str, float]:
    """Return the estimates of all metrics of the test set."""
    return {metric.name: model.value(Key(metric.name)) for metric in model.task.metrics}


def draw_cases(rng: np.random.Generator, groups: int, cfg: StudyConfig) -> tuple[Arm, Arm]:
    """Draw two segmentation models on patients with 1 to 4 cases of one class with 0 to 3 small lesions.

    Dice is skewed (Beta), alike within patients; the second model loses 0.01 on average, much in a
    few cases. Both are over-confident by an amount that differs from patient to patient.
    """
    member = clustered(rng, groups, True)
    n = len(member)
    quality = rng.beta(6, 1, groups)[member] * 0.9 + 0.1 * rng.beta(6, 1, n)
    harm = 0.004 * rng.normal(size=n) + np.where(rng.random(n) < 0.03, 0.3, 0.0) * quality
    ease = rng.normal(size=groups)[member]
    over = 0.03 + 0.05 * rng.normal(size=groups)[member]
    sizes = rng.integers(0, 4, n)
    tables = Tables(), Tables()
    for i in range(n):
        luck = rng.normal(size=sizes[i])
        confidence = rng.dirichlet(np.r_[np.full(14, 0.3), 8.0]) * 5000
        for model, table in enumerate(tables):
            dice = float(np.clip(quality[i] - model * harm[i], 0, 1))
            found = luck + ease[i] > -0.8 + 0.15 * model
            table.overlaps.append(
                Overlap(i, 0, 1000, 1000, round(1000 * dice), dice, dice / (2 - dice), 0.0, dice,
                        sizes[i], int(found.sum()), 0)
            )  # fmt: skip
            table.lesions += [Lesion(i, 0, k, 1.0, bool(hit)) for k, hit in enumerate(found)]
            middle = (np.arange(15) + 0.5) / 15
            right = np.clip(middle - over[i] - 0.01 * model, 0, 1)
            sums = np.stack([confidence, confidence * middle, confidence * right], axis=1)
            table.sums.append(np.stack([sums, sums]))
            table.confusion = np.eye(2, dtype=np.int64)
    cases = Cases(np.arange(n), np.zeros(n, dtype=np.int64), member, ["lesion"], [])
    nothing = LabelMaps(np.zeros(n, dtype=np.uint8), np.ones((n, 2), dtype=np.int64))
    before, after = (OfLabels(cases, cfg.segmentation, table, nothing) for table in tables)
    return before, after


def label_maps(trials: int, resamples: int, cfg: StudyConfig) -> None:
    """Intervals of Dice, lesions and calibration, and of their differences, on few patients."""
    metrics = ("dice", "small_lesion_sensitivity", "ece", "ece_15bin")
    truth = draw_cases(np.random.default_rng(5), 20_000, cfg)
    true = {
        (metric, what): truth[1].value(Key(metric))
        - (truth[0].value(Key(metric)) if what != "value" else 0)
        for metric in metrics
        for what in ("value", "difference")
    }
    for groups in (15, 30, 100):
        rng = np.random.default_rng(6)
        found: dict[tuple[str, str], list[tuple[float, float]]] = {key: [] for key in true}
        for trial in range(trials):
            settings = cfg.model_copy(update={"resamples": resamples, "seed": trial})
            pair = draw_cases(rng, groups, settings)
            cases = pair[0].cases
            both = resample(
                {"before": pair[0], "after": pair[1]}, cases.labels, cases.groups, resamples, trial
            )
            replicates = both["before"], both["after"]
            for metric in metrics:
                for what, row in (
                    ("value", interval(pair[1], Key(metric), replicates[1], LEVEL)),
                    ("difference", difference(*pair, Key(metric), replicates, LEVEL)),
                ):
                    _, low, high = row
                    found[metric, what].append((low, high))
        print(f"\nSegmentation, {groups} patients, 2 cases each:\n")
        print("| metric | of | truth | coverage | low > truth | high < truth | width |")
        for key, intervals in found.items():
            print(f"| {key[0]} | {key[1]} | {true[key]:.4f} | {sides(intervals, true[key])} |")


def main() -> None:
    """Print all tables."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--trials", type=int, default=500)
    parser.add_argument("--study-trials", type=int, default=100)
    parser.add_argument("--resamples", type=int, default=300)
    args = parser.parse_args()
    cfg = SafetyGroup()
    recall(args.trials)
    paired_recall(args.trials)
    non_inferiority(20 * args.trials)
    study(args.study_trials, args.resamples, cfg)
    label_maps(args.study_trials, args.resamples, cfg)


if __name__ == "__main__":
    main()
