"""How logits are compared, in closed form."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from shipped import shipped
from small_data import meta

from edgeward.data.store import Prepared
from edgeward.export import parity
from edgeward.export.config import export_config
from edgeward.records.parity import Parity
from edgeward.runtimes.parity import compare, judge, run_all
from edgeward.tasks.inputs import reader

LOGITS = arrays(np.float64, (6, 3), elements=st.floats(-20, 20))


def test_comparison_in_closed_form() -> None:
    reference = np.array([[2.0, 1.0, 0.0], [0.0, 0.3, 0.0], [0.0, 0.0, 5.0], [1.0, 0.0, 0.0]])
    other = reference.copy()
    other[1] = [0.4, 0.3, 0.0]  # flips an image whose margin is 0.3
    found = compare(reference, other)
    assert found.max_abs == pytest.approx(0.4)
    assert found.mean_abs == pytest.approx(0.4 / 12)
    assert found.agreement == 0.75
    assert found.flipped == 1
    assert found.flipped_margin == pytest.approx(0.3)


@given(LOGITS, LOGITS)
@settings(deadline=None)
def test_a_flip_needs_twice_the_margin_in_error(reference: np.ndarray, other: np.ndarray) -> None:
    found = compare(reference, other)
    assert found.mean_abs <= found.max_abs * (1 + 1e-12)
    assert found.flipped_margin <= 2 * found.max_abs + 1e-12
    assert compare(reference, reference).agreement == 1


def check_int8(mean_error: float, sensitivity: float, flips: int = 0) -> list[str]:
    """Judge 100 images with logits of spread 1 and margin 2."""
    cfg = export_config(shipped("export", "onnx")).parity
    reference = np.tile([[-1.0, 1.0]], (100, 1))
    fused = reference.copy()
    fused[:flips] = fused[:flips, ::-1]
    found = compare(reference, fused).model_copy(update={"mean_abs": mean_error})
    record = Parity(
        passed=False,
        failures=[],
        precision="int8",
        n=100,
        engine={},
        spread=float(reference.std()),
        median_margin=2.0,
        onnx_vs_torch=found,
        batches={},
        tolerance={},
        sensitivity=found.model_copy(update={"mean_abs": sensitivity}),
        unfused_vs_torch=found.model_copy(update={"mean_abs": 0.0}),
    )
    judged = judge(reference, fused, found, cfg.int8, sensitivity)
    return parity.failures_of(judged, record, cfg)


@pytest.mark.parametrize(
    ("mean_error", "sensitivity", "passes"),
    [
        (0.019, 0.0, True),  # too small to matter, whatever the sensitivity
        (0.021, 0.01, False),
        (0.05, 0.11, True),  # less than half the net's own noise
        (0.05, 0.09, False),  # more than that
        (0.11, 1.0, False),  # no sensitivity excuses this
    ],
)
def test_int8_error_is_judged_by_the_sensitivity(
    mean_error: float, sensitivity: float, passes: bool
) -> None:
    failures = check_int8(mean_error, sensitivity)
    assert (failures == []) is passes
    assert passes or "an integer kernel of the engine disagrees" in failures[0]


def test_clearly_decided_images_must_agree() -> None:
    assert check_int8(0.001, 0.0, flips=1) == []
    failures = check_int8(0.001, 0.0, flips=2)
    assert "98.0% of 100 clearly decided images" in failures[0]


def test_images_are_spread_over_the_validation_split(small_prepared: Prepared) -> None:
    val = small_prepared.indices("val")
    few = parity.pick(small_prepared, 16)
    assert len(few) == 16
    assert few[0] == val[0]
    assert few[-1] == val[-1]
    assert np.isin(few, val).all()
    assert (parity.pick(small_prepared, 10_000) == val).all()


def test_noise_is_seeded_and_bounded(small_prepared: Prepared) -> None:
    indices = parity.pick(small_prepared, 16)
    seen: list[np.ndarray] = []

    def forward(image: np.ndarray) -> np.ndarray:
        seen.append(image)
        return image.reshape(len(image), -1)[:, :3]

    read = reader(small_prepared, meta(), 0)
    plain = run_all(forward, parity.batches(read, indices, 5))
    noisy = run_all(forward, parity.batches(read, indices, 5), 0.5)
    again = run_all(forward, parity.batches(read, indices, 5), 0.5)
    assert plain.shape == (16, 3)
    assert (noisy == again).all()
    assert 0.3 < np.abs(noisy - plain).max() <= 0.5
    assert max(len(image) for image in seen) == 5
