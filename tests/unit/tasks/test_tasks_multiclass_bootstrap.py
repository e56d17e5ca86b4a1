"""The bootstrap: what is drawn, and that replicates are the metrics of the drawn sample."""

from __future__ import annotations

import numpy as np
import pytest
from safety_cases import classifier, lesions
from sklearn.metrics import balanced_accuracy_score, roc_auc_score

from edgeward.statistics.bootstrap import resample, resample_weights, strata
from edgeward.statistics.temperature import log_softmax
from edgeward.tasks.assessment import Key
from edgeward.tasks.multiclass.assess import Arm
from edgeward.tasks.multiclass.scores import score

NAMES = ["common", "middling", "rare"]


def _arm(logits: np.ndarray, labels: np.ndarray, groups: np.ndarray) -> Arm:
    return classifier(logits, labels, groups, NAMES, ["rare"], 1.3, (logits, labels))


def _run(arm: Arm, resamples: int, seed: int) -> dict[str, np.ndarray]:
    """The replicates of one arm, by the names of flat records."""
    found = resample({"a": arm}, arm.cases.labels, arm.cases.groups, resamples, seed)["a"]
    return {str(key): values for key, values in found.items()}


def test_resamples_keep_groups_whole_and_strata_full() -> None:
    _, labels, groups = lesions([50, 20, 7])
    weights = np.hstack(list(resample_weights(labels, groups, 250, 3)))
    assert weights.shape == (len(labels), 250)
    assert weights.dtype == np.float32
    first = np.unique(groups, return_index=True)[1]
    for g, i in enumerate(first):
        assert (weights[groups == g] == weights[i]).all()
    for k, drawn in enumerate([50, 20, 7]):
        assert (weights[first][labels[first] == k].sum(axis=0) == drawn).all()
    assert weights[first].mean() == pytest.approx(1.0)
    assert weights[first].var() == pytest.approx(1.0, abs=0.1)


def test_a_group_of_several_classes_belongs_to_its_rarest() -> None:
    labels = np.array([0, 0, 0, 1, 1, 0, 2])
    groups = np.array([7, 7, 9, 9, 9, 4, 4])
    member, stratum = strata(labels, groups)
    assert member.tolist() == [1, 1, 2, 2, 2, 0, 0]
    assert stratum.tolist() == [2, 0, 1]
    weights = np.hstack(list(resample_weights(labels, groups, 50, 0)))
    assert (weights[labels == 2] > 0).all()  # the only group with class 2 is in every resample


def test_weights_follow_the_group_and_not_the_order_of_images() -> None:
    _, labels, groups = lesions([30, 12, 6])
    order = np.random.default_rng(5).permutation(len(labels))
    plain = np.hstack(list(resample_weights(labels, groups, 120, 1)))
    shuffled = np.hstack(list(resample_weights(labels[order], groups[order], 120, 1)))
    assert (plain[order] == shuffled).all()
    other = np.hstack(list(resample_weights(labels, groups, 120, 2)))
    assert (plain != other).any()


def test_replicates_under_unit_weights_are_the_estimates() -> None:
    logits, labels, groups = lesions([60, 25, 12])
    arm = _arm(logits, labels, groups)
    found = arm.replicates(np.ones((len(labels), 2), np.float32))
    assert set(found) == set(arm.estimates)
    for key, estimate in arm.estimates.items():
        if key in arm.squared:  # noise of the sample is taken out here, and put back by `resample`
            continue
        loose = 5e-3 if key.metric == "smooth_ece" else 1e-4
        assert found[key][0] == pytest.approx(estimate, rel=loose, abs=1e-6), key


def test_replicates_are_the_metrics_of_the_drawn_images() -> None:
    logits, labels, groups = lesions([60, 25, 12])
    scores, arm = score(logits, labels, np.zeros(3), 1.3), _arm(logits, labels, groups)
    weights = next(resample_weights(labels, groups, 5, 9))
    found = {str(key): values for key, values in arm.replicates(weights).items()}
    for j in range(5):
        rows = np.repeat(np.arange(len(labels)), weights[:, j].astype(int))
        y, decided = labels[rows], scores.decision[rows]
        p = np.exp(log_softmax(logits[rows]))
        assert found["accuracy"][j] == pytest.approx((decided == y).mean(), abs=1e-6)
        assert found["balanced_accuracy"][j] == pytest.approx(
            balanced_accuracy_score(y, decided), abs=1e-6
        )
        assert found["rare_recall"][j] == pytest.approx((decided[y == 2] == 2).mean(), abs=1e-6)
        assert found["auc_macro"][j] == pytest.approx(
            roc_auc_score(y, p, multi_class="ovr"), abs=1e-6
        )
        assert found["nll"][j] == pytest.approx(scores.nll[rows].mean(), rel=1e-5)
        assert found["brier"][j] == pytest.approx(scores.brier[rows].mean(), rel=1e-5)


def test_run_centres_what_resampling_biases() -> None:
    logits, labels, groups = lesions([120, 50, 25])
    arm = _arm(logits, labels, groups)
    found = _run(arm, 600, 0)
    assert found["ece_15bin"].mean() == pytest.approx(arm.value(Key("ece_15bin")), abs=5e-3)
    assert (found["ece"] >= 0).all()
    for name in ("nll", "accuracy", "auc_macro"):  # not touched: unbiased by themselves
        error = found[name].std() / np.sqrt(600)
        assert found[name].mean() == pytest.approx(arm.value(Key(name)), abs=4 * error + 2e-3)


def test_bootstrap_error_of_accuracy_is_that_of_cluster_theory() -> None:
    logits, labels, groups = lesions([150, 60, 40], strength=1.5)
    arm = _arm(logits, labels, groups)
    found = _run(arm, 4000, 1)
    correct = logits.argmax(axis=1) == labels
    for k in range(3):
        mine = labels == k
        residual = correct[mine] - correct[mine].mean()
        sums = np.bincount(np.unique(groups[mine], return_inverse=True)[1], residual)
        expected = np.sqrt(np.sum(sums**2)) / mine.sum()
        assert found[f"recall_{NAMES[k]}"].std() == pytest.approx(expected, rel=0.08)


def test_identical_arms_have_identical_replicates() -> None:
    logits, labels, groups = lesions([40, 20, 9])
    arms = {name: _arm(logits, labels, groups) for name in "ab"}
    found = resample(arms, labels, groups, 150, 0)
    for name in found["a"]:
        assert np.array_equal(found["a"][name], found["b"][name], equal_nan=True)
