"""Whether folds, subgroups, operating points, prediction sets and outcomes hold what they say: simulation with a known truth.

Run ``python benchmarks/coverage_verdict.py`` (a quarter of an hour of one core; ``--trials`` for more). The tables are those of
docs/statistics.md. Models are binormal: the log odds of a case are ``N(+-d^2/2, d^2)``, so that every truth is a closed form.
"""

from __future__ import annotations

import argparse
from collections import Counter, defaultdict

import numpy as np
from coverage import LEVEL, clustered, sides
from scipy.special import ndtr

from edgeward.safety import strata
from edgeward.safety.config import SafetyGroup, StudyConfig
from edgeward.safety.folds import Folds
from edgeward.statistics.bootstrap import resample
from edgeward.statistics.intervals import tango
from edgeward.statistics.noninferiority import judge
from edgeward.tasks.assessment import Arm, Cases, Key, difference, interval
from edgeward.tasks.multiclass.assess import Arm as OfClasses
from edgeward.tasks.multiclass.fixed import Labelled

D = 1.8  # distance of ill and well in standard deviations: an AUC of 0.898
NOISE = 0.6  # that compression adds to the log odds
COLUMNS = "coverage | low > truth | high < truth | width |"
Interval = tuple[float, float]


def score(rng: np.random.Generator, labels: np.ndarray, groups: np.ndarray) -> np.ndarray:
    """Draw log odds, half of their variance shared by the images of a group."""
    _, group = np.unique(groups, return_inverse=True)
    shared, own = rng.normal(size=group.max() + 1)[group], rng.normal(size=len(group))
    return D * (np.sqrt(0.5) * shared + np.sqrt(0.5) * own) + D**2 * (labels - 0.5)


def above(threshold: float, sd: float, ill: bool = True) -> float:
    """Return the true share of log odds above a threshold, of a model whose log odds have this standard deviation."""
    return float(ndtr(((D**2 if ill else -(D**2)) / 2 - threshold) / sd))


def model(
    scores: np.ndarray,
    cases: Cases,
    cfg: StudyConfig,
    val: tuple[np.ndarray, np.ndarray] | None = None,
) -> OfClasses:
    """Return a model of two classes by its log odds; `val` are those of validation, and labels."""

    def logits(values: np.ndarray) -> np.ndarray:
        return np.stack([np.zeros_like(values), values], axis=1)

    known = None if val is None else Labelled(logits(val[0]), val[1])
    return OfClasses(cases, cfg.multiclass, logits(scores), np.zeros(2), 1.0, known)


def draw_cases(rng: np.random.Generator, ill: int, well: int) -> Cases:
    """Draw cases of so many ill and well groups, 1 to 4 images each."""
    groups = clustered(rng, ill + well, True)
    labels = (groups < ill).astype(np.int64)
    return Cases(np.arange(len(labels)), labels, groups, ["well", "ill"], ["ill"])


def point(cut: float, ill: bool, sd: float) -> float:
    """Return the sensitivity (specificity, of the well) of a cut."""
    return above(cut, sd) if ill else 1 - above(cut, sd, ill=False)


def at_point(trials: int, cfg: StudyConfig) -> None:
    """Sensitivity at 90 % specificity and the reverse: single, and difference of two models with thresholds of their own."""
    print(f"\n| ill groups | metric | of | {COLUMNS}\n" + "|---" * 7 + "|")
    rng, sd = np.random.default_rng(1), float(np.hypot(D, NOISE))
    for ill in (30, 100, 300):
        found: dict[tuple[str, str], list[tuple[float, float, float]]] = defaultdict(list)
        for _ in range(trials):
            val, cases = draw_cases(rng, 60, 400), draw_cases(rng, ill, 400)
            first = [score(rng, c.labels, c.groups) for c in (val, cases)]
            second = [s + rng.normal(0, NOISE, len(s)) for s in first]
            arms = [model(s[1], cases, cfg, (s[0], val.labels)) for s in (first, second)]
            for metric in ("sensitivity_at_specificity", "specificity_at_sensitivity"):
                key, of_ill = Key(metric, "ill"), metric.startswith("sens")
                truths = [
                    point(arm.fixed.points[metric][1], of_ill, s)
                    for arm, s in zip(arms, (D, sd), strict=True)
                ]
                _, low, high = interval(arms[0], key, {}, LEVEL)
                found[metric, "value"].append((low, high, truths[0]))
                _, low, high = difference(arms[0], arms[1], key, ({}, {}), LEVEL)
                found[metric, "difference"].append((low, high, truths[1] - truths[0]))
        for (metric, of), rows in found.items():
            print(f"| {ill} | {metric} | {of} | {about_truth(rows)} |")


def about_truth(rows: list[tuple[float, float, float]]) -> str:
    """Format the coverage of intervals with a truth each."""
    return sides([(low - truth, high - truth) for low, high, truth in rows], 0.0)


def prediction_sets(trials: int, cfg: StudyConfig) -> None:
    """Coverage of class-conditional sets: what validation promises, and what the interval on the test cases says of it."""
    print(f"\n| val images of ill | promised | true coverage, mean | 5 % of them below | {COLUMNS}")
    print("|---" * 8 + "|")
    rng = np.random.default_rng(2)
    for n in (15, 40, 150):
        truths, rows = [], []
        for _ in range(trials):
            # Calibration images are of one group each, as exchangeability asks for.
            labels = np.repeat([1, 0], [n, 400])
            val = score(rng, labels, np.arange(len(labels)))
            cases = draw_cases(rng, 60, 200)
            arm = model(score(rng, cases.labels, cases.groups), cases, cfg, (val, labels))
            least = arm.fixed.least[1]
            truth = above(-float(np.log(np.expm1(-least))), D) if np.isfinite(least) else 1.0
            _, low, high = interval(arm, Key("set_coverage", "ill"), {}, LEVEL)
            truths.append(truth)
            rows.append((low, high, truth))
        promised = cfg.multiclass.uncertainty.coverage
        print(
            f"| {n} | {promised:g} | {np.mean(truths):.3f} | {np.quantile(truths, 0.05):.3f} | {about_truth(rows)} |"
        )


def subgroups(trials: int, cfg: StudyConfig) -> None:
    """Differences of accuracy in subgroups, and how often the test of interaction rejects."""
    print(f"\n| groups | lost in the smallest | {COLUMNS} interaction found |\n" + "|---" * 7 + "|")
    rng, sizes = np.random.default_rng(3), {"a": 60, "b": 150, "c": 400}
    asked = cfg.model_copy(update={"strata": {"site": None}})
    sd, share = float(np.hypot(D, NOISE)), 0.3
    alike = share * (above(0, sd) - above(0, D)) + (1 - share) * (
        above(0, D, False) - above(0, sd, False)
    )
    for lost in (0.0, 0.05, 0.1, 0.2):
        found: dict[str, list[Interval]] = defaultdict(list)
        rejected = 0
        truth = dict.fromkeys(sizes, alike)
        for _ in range(trials):
            site = np.repeat(list(sizes), list(sizes.values()))
            groups = clustered(rng, len(site), True)
            labels = (rng.random(len(site)) < share).astype(np.int64)[groups]
            cases = Cases(
                np.arange(len(labels)),
                labels,
                groups,
                ["well", "ill"],
                ["ill"],
                {"site": site[groups]},
            )
            before = score(rng, labels, groups)
            after = before + rng.normal(0, NOISE, len(before))
            right = (after > 0) == labels
            # Of what is right in the smallest subgroup, so much is turned wrong.
            turned = right & (site[groups] == "a") & (rng.random(len(after)) < lost)
            after = np.where(turned, -after, after)
            compared = strata.compare(model(before, cases, cfg), model(after, cases, cfg), asked)
            for row in compared.rows:
                _, low, high = row.differences["accuracy"]
                found[row.value].append((low, high))
            rejected += compared.interactions[0].p < 1 - LEVEL
        accuracy = share * above(0, sd) + (1 - share) * (1 - above(0, sd, False))
        truth["a"] = alike - lost * accuracy
        for name, rows in found.items():
            last = f"{rejected / trials:.3f}" if name == "a" else ""
            mine = f"{lost:g}" if name == "a" else ""
            print(f"| {sizes[name]} | {mine} | {sides(rows, truth[name])} | {last} |")


def cross_validation(trials: int, resamples: int, cfg: StudyConfig) -> None:
    """Differences over five folds, whose trainings move the border and add noise of their own."""
    print(f"\n| spread of trainings | metric | interval | {COLUMNS}\n" + "|---" * 7 + "|")
    rng, k, key_r, key_a = np.random.default_rng(4), 5, Key("recall", "ill"), Key("auc", "ill")
    for spread in (0.0, 0.3, 1.0):
        found: dict[tuple[str, str], list[Interval]] = defaultdict(list)
        noises = np.abs(NOISE + spread * np.random.default_rng(0).normal(size=200_000))
        # The border moves by N(0, spread) in both models, trained apart.
        recall = [
            float(np.mean(ndtr(D**2 / 2 / np.sqrt(D**2 + s**2 + spread**2)))) for s in (0.0, noises)
        ]
        auc = [float(np.mean(ndtr(D**2 / np.sqrt(2 * (D**2 + s**2))))) for s in (0.0, noises)]
        for _ in range(trials):
            whole = draw_cases(rng, 85, 500)
            fold = np.r_[np.arange(85) % k, np.arange(500) % k][whole.groups]
            parts: tuple[list[Arm], list[Arm]] = [], []
            for i in range(k):
                cases = whole.restricted(fold == i)
                before = score(rng, cases.labels, cases.groups)
                own = abs(NOISE + spread * rng.normal())
                after = before + rng.normal(0, own, len(before))
                for arms, values in zip(parts, (before, after), strict=True):
                    arms.append(model(values + spread * rng.normal(), cases, cfg))
            joined = [Folds(arms) for arms in parts]
            named = {"before": joined[0], "after": joined[1]}
            drawn = resample(named, joined[0].strata, joined[0].cases.groups, resamples, 0)
            both = drawn["before"], drawn["after"]
            for key in (key_r, key_a):
                _, low, high = difference(joined[0], joined[1], key, both, LEVEL)
                found[key.metric, "shown"].append((low, high))
            shares = [arm.basis(key_r) for arm in joined]
            alone = shares[0].against(shares[1], LEVEL)  # type: ignore[union-attr, arg-type]
            found["recall", "cases alone"].append((alone.low, alone.high))
            change = both[1][key_a] - both[0][key_a]
            low, high = np.quantile(change, [(1 - LEVEL) / 2, (1 + LEVEL) / 2])
            found["auc", "cases alone"].append((low, high))
        truth = {"recall": recall[1] - recall[0], "auc": auc[1] - auc[0]}
        for (metric, what), rows in sorted(found.items()):
            print(f"| {spread:g} | {metric} | {what} | {sides(rows, truth[metric])} |")


def outcomes(many: int) -> None:
    """Type I errors of the outcome of a recall endpoint: a pass at a loss of the margin, a fail at a loss up to it."""
    print("\n| cases | true loss | discordance | pass | inconclusive | fail |\n" + "|---" * 6 + "|")
    rng, margin = np.random.default_rng(5), 0.05
    for n in (100, 400, 2000):
        for loss in (0.0, 0.05, 0.1):
            for gained in (0.02, 0.1):
                counts = rng.multinomial(n, [loss + gained, gained, 1 - loss - 2 * gained], many)
                table = Counter(map(tuple, counts[:, :2].tolist()))
                seen: Counter[str] = Counter()
                for (lost, won), times in table.items():
                    seen[judge(*tango(won, lost, n, LEVEL), margin, "higher")] += times
                shares = " | ".join(
                    f"{seen[o] / many:.3f}" for o in ("pass", "inconclusive", "fail")
                )
                print(f"| {n} | {loss:g} | {loss + 2 * gained:.2f} | {shares} |")


def main() -> None:
    """Print all tables."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--trials", type=int, default=500)
    parser.add_argument("--resamples", type=int, default=300)
    args = parser.parse_args()
    cfg = SafetyGroup()
    outcomes(20 * args.trials)
    at_point(args.trials, cfg)
    prediction_sets(args.trials, cfg)
    subgroups(args.trials, cfg)
    cross_validation(args.trials // 2, args.resamples, cfg)


if __name__ == "__main__":
    main()
