"""When a timed run ends, and what its intervals are worth after that."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from edgeward.profiling import statistics
from edgeward.profiling.agent import timing
from edgeward.profiling.agent.stopping import GROWTH, enough, half_widths, interval_ranks

STOP = {"percentiles": [50, 90], "confidence": 0.95, "half_width": 0.01}


@given(
    n=st.integers(1, 20_000),
    share=st.floats(0.01, 0.99),
    confidence=st.sampled_from([0.9, 0.95, 0.99]),
)
@settings(max_examples=200, deadline=None)
def test_ranks_without_scipy_are_those_with_it(n: int, share: float, confidence: float) -> None:
    assert interval_ranks(n, share, confidence) == statistics.interval_ranks(n, share, confidence)


def test_ranks_of_very_long_runs() -> None:
    for share in (0.5, 0.9, 0.99):
        ours, theirs = (
            f(1_000_000, share, 0.95) for f in (interval_ranks, statistics.interval_ranks)
        )
        assert ours == theirs


def test_half_width_is_that_of_the_reported_interval() -> None:
    samples = np.random.default_rng(0).gamma(9, size=700)
    for percent, width in zip((50, 90), half_widths(samples, [50, 90], 0.95), strict=True):
        estimate, low, high = statistics.percentile(np.sort(samples), percent, 0.95)
        assert width == (high - low) / 2 / estimate
    assert half_widths(samples[:20], [90], 0.95) == [math.inf]


Draw = Callable[[np.random.Generator, int], np.ndarray]


def sequence(draw: Draw, rng: np.random.Generator, most: int) -> np.ndarray:
    """Sample as the agent does: 400 at least, a look, a quarter more, until precise or `most`."""
    samples = draw(rng, most)
    count = 400
    while count < most and not enough(samples[:count], STOP):
        count = min(int(count * GROWTH) + 1, most)
    return samples[:count]


DISTRIBUTIONS: dict[str, tuple[Draw, Callable[[float], float] | None]] = {
    "lognormal": (lambda r, n: r.lognormal(0, 0.08, n), lambda q: math.exp(0.08 * q)),
    # A clean peak with a slow tail, as on a machine with interrupts: 85 % at 1, 15 % around 1.3.
    "mixture": (
        lambda r, n: np.where(r.random(n) < 0.85, r.normal(1, 0.02, n), r.normal(1.3, 0.08, n)),
        None,
    ),
}


@pytest.mark.parametrize(("name", "trials"), [("lognormal", 1000), ("mixture", 300)])
def test_stopping_on_the_width_keeps_the_coverage(name: str, trials: int) -> None:
    """A 95 % interval after early stopping covers the truth about 95 % of the time."""
    draw, quantile = DISTRIBUTIONS[name]
    rng = np.random.default_rng(5)
    truth = {}
    for percent, normal in ((50, 0.0), (90, 1.2815515655446004)):
        if quantile is None:
            long = draw(np.random.default_rng(6), 4_000_000)
            truth[percent] = float(np.quantile(long, percent / 100))
        else:
            truth[percent] = quantile(normal)
    covered, lengths = {50: 0, 90: 0}, set()
    for _ in range(trials):
        samples = np.sort(sequence(draw, rng, 4000))
        lengths.add(len(samples))
        for percent in covered:
            _, low, high = statistics.percentile(samples, percent, 0.95)
            covered[percent] += low <= truth[percent] <= high
    assert len(lengths) > 1  # it does stop at different times
    # 4000 trials gave 94.5 to 95.7 %; less three standard errors of these few.
    least = 0.945 - 3 * math.sqrt(0.945 * 0.055 / trials)
    assert min(covered.values()) / trials > least, covered


class Clock:
    """A clock that an inference moves by a given time, and nothing else does."""

    def __init__(self, durations: Iterator[int]) -> None:
        self.now, self.durations, self.runs = 0, durations, 0

    def __call__(self) -> int:
        return self.now

    def run(self) -> None:
        self.now += next(self.durations)
        self.runs += 1


def window(monkeypatch: pytest.MonkeyPatch, durations: Any, **changed: Any) -> tuple[Any, ...]:
    """Run the timed window on made-up durations (ns); return samples, ns, precise, inferences."""
    clock = Clock(iter(durations))
    monkeypatch.setattr(timing, "clock", clock)
    request = {
        "min_count": 400,
        "min_duration_s": 0.5,
        "max_duration_s": 2.0,
        "stop": STOP,
        **changed,
    }
    samples = np.zeros(timing.CAPACITY, dtype=np.int64)
    count, timed, precise, peak = timing._window(clock.run, samples, request)
    assert peak > 0
    return samples[:count], timed, precise, clock.runs


def forever(rng: np.random.Generator, spread: float) -> Iterator[int]:
    while True:
        yield from rng.lognormal(math.log(1e6), spread, 1000).astype(int)


def test_steady_run_ends_at_its_minimum(monkeypatch: pytest.MonkeyPatch) -> None:
    samples, timed, precise, runs = window(monkeypatch, forever(np.random.default_rng(0), 0.01))
    assert precise
    assert 0.5e9 <= timed < 0.5e9 + 2e6
    assert samples.sum() == timed
    assert runs == len(samples)


def test_slow_inferences_are_still_counted_to_the_minimum(monkeypatch: pytest.MonkeyPatch) -> None:
    samples, _, precise, _ = window(monkeypatch, iter([4_000_000] * 1000))
    assert (len(samples), precise) == (400, True)


def test_scattered_run_goes_on_until_it_is_precise(monkeypatch: pytest.MonkeyPatch) -> None:
    samples, timed, precise, runs = window(
        monkeypatch, forever(np.random.default_rng(0), 0.12), max_duration_s=60.0
    )
    assert precise
    assert timed > 0.6e9
    assert max(half_widths(samples, [50, 90], 0.95)) <= 0.01
    assert runs > len(samples)  # the one after each look is not counted
    shorter = samples[: int(len(samples) / GROWTH) - 1]
    assert max(half_widths(shorter, [50, 90], 0.95)) > 0.01


def test_hopeless_run_ends_at_the_maximum(monkeypatch: pytest.MonkeyPatch) -> None:
    _, timed, precise, _ = window(monkeypatch, forever(np.random.default_rng(0), 1.0))
    assert not precise
    assert 2e9 <= timed < 2.2e9


def test_without_a_precision_the_minimum_is_enough(monkeypatch: pytest.MonkeyPatch) -> None:
    _, timed, _, _ = window(monkeypatch, forever(np.random.default_rng(0), 1.0), stop=None)
    assert 0.5e9 <= timed < 0.7e9
