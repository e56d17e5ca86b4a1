"""Several findings per image: metrics against scikit-learn, losses against torch and their formulas, thresholds, verdict."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from findings import NAMES, caller, drawn
from hypothesis import given, settings
from hypothesis import strategies as st
from jinja2 import Environment
from safety_cases import config
from sklearn import metrics as sk
from small_data import card
from torch.nn import functional

from edgeward.safety.comparison import assess
from edgeward.safety.folds import Folds
from edgeward.statistics.alignment import call_shares, fit_offsets
from edgeward.statistics.conformal import sets, thresholds
from edgeward.statistics.ranking import PrecisionTable
from edgeward.tasks.assessment import Key, Share
from edgeward.tasks.multilabel.config import LossConfig
from edgeward.tasks.multilabel.losses import class_weights, cross_entropy, logit_shift, make_loss
from edgeward.tasks.multilabel.report import sections
from edgeward.tasks.multilabel.thresholds import best
from edgeward.tasks.multilabel.train import validation_metrics
from edgeward.tasks.page import Shown

SEEDS = st.integers(0, 10_000)


@settings(max_examples=15, deadline=None)
@given(SEEDS, st.sampled_from([0.0, 0.2]))
def test_metrics_are_those_of_scikit_learn(seed: int, unknown: float) -> None:
    logits, findings, groups = drawn(seed, unknown=unknown)
    arm = caller(logits, findings, groups)
    p, known = 1 / (1 + np.exp(-logits.astype(np.float64))), findings >= 0
    means: dict[str, list[float]] = {"auc": [], "ap": [], "f1": []}
    for k, name in enumerate(NAMES):
        y, q, said = findings[known[:, k], k], p[known[:, k], k], logits[known[:, k], k] > 0
        expected = {
            "auc": sk.roc_auc_score(y, q),
            "ap": sk.average_precision_score(y, q),
            "f1": sk.f1_score(y, said),
            "brier": sk.brier_score_loss(y, q),
        }
        for metric, value in expected.items():
            assert arm.value(Key(metric, name)) == pytest.approx(value, abs=1e-6), metric
            means.setdefault(metric, []).append(value)
        of = {}
        for metric in ("recall", "specificity"):
            share = arm.basis(Key(metric, name))
            assert isinstance(share, Share)
            of[metric] = share.hit[share.where].mean()
        assert of["recall"] == pytest.approx(sk.recall_score(y, said))
        assert of["specificity"] == pytest.approx(sk.recall_score(y, said, pos_label=0))
    assert arm.value(Key("auc_macro")) == pytest.approx(np.mean(means["auc"]), abs=1e-6)
    assert arm.value(Key("map")) == pytest.approx(np.mean(means["ap"]), abs=1e-6)
    assert arm.value(Key("f1_macro")) == pytest.approx(np.mean(means["f1"]), abs=1e-6)
    y, q = findings[known], p[known]
    assert arm.value(Key("nll")) == pytest.approx(sk.log_loss(y, q), abs=1e-6)
    assert arm.value(Key("brier")) == pytest.approx(np.mean((q - y) ** 2), abs=1e-6)
    if not unknown:
        said = logits > 0
        right = 1 - sk.hamming_loss(findings, said)
        assert arm.value(Key("label_accuracy")) == pytest.approx(right, abs=1e-6)
        exact = arm.basis(Key("exact_match"))
        assert isinstance(exact, Share)
        assert exact.hit.mean() == pytest.approx(sk.accuracy_score(findings, said))


@settings(max_examples=30, deadline=None)
@given(SEEDS, st.integers(4, 60))
def test_average_precision_of_resamples_is_that_of_scikit_learn(seed: int, n: int) -> None:
    rng = np.random.default_rng(seed)
    score, positive = rng.integers(0, 8, n) / 3, rng.random(n) < 0.3
    positive[0] = True
    weights = rng.integers(0, 4, (n, 3)).astype(np.float32)
    weights[0] = 1
    found = PrecisionTable.of(score, positive).replicates(weights)
    expected = [sk.average_precision_score(positive, score, sample_weight=w) for w in weights.T]
    np.testing.assert_allclose(found, expected, atol=1e-9)


def test_calibration_error_is_near_that_put_in() -> None:
    """Probabilities that are off by 0.1 everywhere; and right ones."""
    rng = np.random.default_rng(0)
    p = rng.uniform(0.15, 0.85, (4000, 3))
    findings = (rng.random(p.shape) < p).astype(np.int8)
    for off in (0.0, 0.1):
        stated = (p + off).clip(0.01, 0.99)
        logits = np.log(stated / (1 - stated)).astype(np.float32)
        arm = caller(logits, findings, np.arange(len(p)))
        for key in (Key("ece"), *(Key("ece", name) for name in NAMES)):
            assert arm.value(key) == pytest.approx(off, abs=0.025), key


def counts_of(findings: np.ndarray) -> np.ndarray:
    return np.stack([(findings == 1).sum(axis=0), (findings == 0).sum(axis=0)])


def of(name: str, **changes: object) -> LossConfig:
    return LossConfig.model_validate({"name": name, **changes})


def test_losses_are_their_formulas() -> None:
    rng = np.random.default_rng(3)
    findings = torch.from_numpy((rng.random((40, 3)) < [0.5, 0.2, 0.1]).astype(np.int8))
    findings[:2] = torch.tensor([[1, 1, 1], [0, 0, 0]], dtype=torch.int8)
    logits = torch.from_numpy(rng.normal(0, 2, (40, 3)))
    counts, y, p = counts_of(findings.numpy()), findings.double(), torch.sigmoid(logits)

    def loss(name: str, **changes: object) -> float:
        return float(make_loss(of(name, **changes), counts)(logits, findings))

    plain = functional.binary_cross_entropy_with_logits(logits, y)
    assert loss("binary_cross_entropy") == pytest.approx(float(plain), rel=1e-6)
    assert float(cross_entropy(logits, findings)) == pytest.approx(float(plain), rel=1e-6)
    odds = torch.from_numpy(np.log(counts[0] / counts[1]))
    moved = functional.binary_cross_entropy_with_logits(logits + 0.7 * odds, y)
    assert loss("binary_logit_adjusted", tau=0.7) == pytest.approx(float(moved), rel=1e-6)
    ones, zeros = -((1 - p) ** 2) * p.log(), -(p**2) * (1 - p).log()
    focal = torch.where(findings == 1, ones, zeros).mean()
    assert loss("binary_focal", gamma=2.0) == pytest.approx(float(focal), rel=1e-6)
    cut = (p - 0.05).clamp(min=0)
    zeros = -(cut**4) * (1 - cut).log()
    asymmetric = torch.where(findings == 1, -(1 - p) * p.log(), zeros).mean()
    changes = {"gamma_positive": 1.0, "gamma_negative": 4.0, "clip": 0.05}
    assert loss("asymmetric", **changes) == pytest.approx(float(asymmetric), rel=1e-6)
    margin = torch.from_numpy(0.5 * (counts[0].min() / counts[0]) ** 0.25)
    ldam = functional.binary_cross_entropy_with_logits(logits - margin * y, y)
    assert loss("binary_ldam", margin=0.5) == pytest.approx(float(ldam), rel=1e-6)
    w = torch.from_numpy(class_weights(counts, 0.99))
    weight = torch.where(findings == 1, w[0], w[1])
    balanced = functional.binary_cross_entropy_with_logits(logits, y, weight=weight)
    assert loss("binary_class_balanced", beta=0.99) == pytest.approx(float(balanced), rel=1e-6)


@pytest.mark.parametrize("name", LossConfig.model_fields["name"].annotation.__args__)  # type: ignore[union-attr]
def test_unknown_findings_take_no_part(name: str) -> None:
    logits, findings, _ = drawn(1)
    counts = counts_of(findings)
    hidden = findings.copy()
    hidden[5:9, 1] = -1
    z = torch.from_numpy(logits).requires_grad_()
    make_loss(of(name), counts)(z, torch.from_numpy(hidden)).backward()
    assert z.grad is not None
    assert float(z.grad[5:9, 1].abs().max()) == 0
    assert float(z.grad[5:9, 0].abs().min()) > 0


@pytest.mark.parametrize(
    "cfg",
    [
        of("binary_cross_entropy"),
        of("binary_logit_adjusted", tau=1.0),
        of("binary_logit_adjusted", tau=0.5),
        of("binary_class_balanced", beta=0.99),
    ],
    ids=lambda cfg: f"{cfg.name}-{cfg.tau}",
)
def test_the_shift_gives_back_the_natural_prevalence(cfg: LossConfig) -> None:
    """A constant logit whose probability, with the shift, is the prevalence is where the loss is flat."""
    _, findings, _ = drawn(2, patients=200)
    counts = counts_of(findings)
    loss, truth = make_loss(cfg, counts), torch.from_numpy(findings)
    shift, prevalence = logit_shift(cfg, counts, findings.mean(axis=0)), findings.mean(axis=0)
    natural = np.log(prevalence / (1 - prevalence))
    z = torch.tensor(natural - shift, requires_grad=True)
    loss(z.expand(len(findings), 3), truth).backward()
    assert z.grad is not None
    np.testing.assert_allclose(z.grad.numpy(), 0, atol=1e-6)


@settings(max_examples=6, deadline=None)
@given(SEEDS, st.sampled_from(["f1", "youden"]))
def test_thresholds_are_the_best_there_are(seed: int, rule: str) -> None:
    logits, findings, _ = drawn(seed, patients=8, strength=0.8)
    found = best(np.round(logits, 1), findings, rule)
    for k in range(3):
        z, y = np.round(logits[:, k], 1), findings[:, k]

        borders = [z.min() - 1, *((np.unique(z)[1:] + np.unique(z)[:-1]) / 2), found[k]]
        score = sk.f1_score if rule == "f1" else sk.balanced_accuracy_score
        scores = [score(y, z > border) for border in borders]
        assert scores[-1] == pytest.approx(max(scores))


def test_prediction_sets_hold_each_finding_as_often_as_promised() -> None:
    rng = np.random.default_rng(5)
    held = []
    for _ in range(60):
        truth = rng.random((400, 2)) < [0.4, 0.15]
        log_p = -np.logaddexp(0, -(rng.normal(size=truth.shape) + truth))
        least = thresholds(log_p[:200], truth[:200], 0.9)
        inside = sets(log_p[200:], least)
        held.append([inside[truth[200:, k], k].mean() for k in range(2)])
    np.testing.assert_allclose(np.mean(held, axis=0), 0.9, atol=0.03)


@settings(max_examples=40, deadline=None)
@given(SEEDS, st.integers(3, 40))
def test_each_finding_is_called_as_often_as_wanted(seed: int, n: int) -> None:
    rng = np.random.default_rng(seed)
    plain, other = rng.normal(size=(n, 3)), rng.normal(1, 2, (n, 3)).round(1)
    wanted = call_shares(plain, exclusive=False)
    called = call_shares(other + fit_offsets(other, wanted, exclusive=False), exclusive=False)
    for k in range(3):
        cuts = [*other[:, k], other[:, k].min() - 1]
        nearest = min(abs((other[:, k] > cut).mean() - wanted[k]) for cut in cuts)
        assert abs(called[k] - wanted[k]) == pytest.approx(nearest, abs=1e-12)
    same = fit_offsets(plain, wanted, exclusive=False)
    np.testing.assert_array_equal(same, 0)


def test_a_moved_threshold_is_told_from_lost_discrimination() -> None:
    logits, findings, groups = drawn(7, patients=600, strength=2.5)
    val = drawn(8, patients=600, strength=2.5)[:2]
    lost = logits.copy(), val[0].copy()
    for z, y in zip(lost, (findings, val[1]), strict=True):
        z[:, 0] -= 1.2  # a border moved
        z[:, 1] = 0.35 * z[:, 1] + np.random.default_rng(9).normal(0, 1.2, len(y))
    before = caller(logits, findings, groups, val)
    after = caller(lost[0], findings, groups, (lost[1], val[1]))
    cfg = config(resamples=200)
    _, verdict = assess(after, before, cfg)
    assert verdict.verdict == "fail"
    cause = {row.name: row.cause for row in verdict.decisions}
    assert cause == {"common": "threshold", "middling": "discrimination", "rare": "none"}
    assert verdict.decisions[0].offset == pytest.approx(1.2, abs=0.2)
    assert {loss.subset for loss in verdict.also_lost} == {"common", "middling"}
    _, same = assess(before, before, cfg)
    assert same.churn is not None
    assert same.churn.estimate == 0
    assert "fail" not in {row.outcome for row in same.endpoints}


def test_folds_are_judged_as_one() -> None:
    logits, findings, groups = drawn(4, patients=300)
    turns = [groups % 3 == k for k in range(3)]
    arms = [caller(logits[w], findings[w], groups[w]) for w in turns]
    worse = [caller(-logits[w], findings[w], groups[w]) for w in turns]
    _, verdict = assess(Folds(worse), Folds(arms), config(resamples=200))
    assert verdict.verdict == "fail"
    assert sum(row.n for row in verdict.per_class) == int(findings.sum())


def test_validation_metrics_are_those_of_scikit_learn() -> None:
    logits, findings, _ = drawn(6)
    shift = np.array([0.3, -0.2, 0.5])
    found = validation_metrics(logits, findings, shift, [2])
    p = 1 / (1 + np.exp(-(logits + shift)))
    assert found["val_auc"] == pytest.approx(sk.roc_auc_score(findings, p))
    assert found["val_map"] == pytest.approx(sk.average_precision_score(findings, p))
    assert found["val_loss"] == pytest.approx(sk.log_loss(findings.ravel(), p.ravel()), rel=1e-6)
    assert found["val_rare_recall"] == pytest.approx((logits[findings[:, 2] == 1, 2] > 0).mean())


def test_the_page_shows_which_findings_come_together() -> None:
    facts = card(
        name="films", task="multilabel", classes=["mass", "nodule"], n_labels=2, rare_classes=["nodule"], n_images=9,
        image_shape=[8, 8, 1], counts={}, train_prior=[0.6, 0.4], channel_mean=[0.5], channel_std=[0.2],
        cooccurrence=[[4, 2], [2, 3]], empty={"train": 3, "val": 1}, left_out={"hernia": 1},
        unknown={"train": {"mass": 0, "nodule": 2}},
    )  # fmt: skip
    nowhere = Path("nowhere")
    recipe: Any = None  # nothing of it is asked
    shown = Shown(
        "k", "films", "m", 0, "fp32", True, facts, recipe, {}, nowhere, nowhere, nowhere, "", ""
    )
    (section,) = sections([shown])
    page = Environment(autoescape=True).from_string(section.template)
    text = page.render(count=str, **section.context)
    assert section.context["rows"] == [
        ("mass", [(4, 1.0), (2, 0.5)]),
        ("nodule", [(2, pytest.approx(2 / 3)), (3, 1.0)]),
    ]
    assert "hernia (1)" in text
    assert "nodule (2)" in text
    assert "Without any finding: 3" in text
