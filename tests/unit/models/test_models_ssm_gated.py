"""SSD: chunks against the recurrence as defined, gradients against finite differences."""

from __future__ import annotations

from importlib import import_module

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from edgeward.models.ssm.gated import chunk_length, chunked, gated_scan, sequential


def inputs(
    length: int, heads: int, groups: int, seed: int = 0, n: int = 3, p: int = 4, batch: int = 2
) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor, torch.Tensor]:
    rng = torch.Generator().manual_seed(seed)

    def normal(size: int) -> torch.Tensor:
        return torch.randn(batch, length, size, generator=rng, dtype=torch.float64)

    return normal(groups * n), normal(groups * n), normal(heads * p), -normal(heads).exp()


def by_hand(q: np.ndarray, k: np.ndarray, v: np.ndarray, g: np.ndarray) -> np.ndarray:
    """One head in numpy: the sums written out, o_t = sum_s exp(g_{s+1} + .. + g_t) (q_t k_s) v_s."""
    out = np.zeros_like(v)
    for t in range(len(v)):
        for s in range(t + 1):
            out[t] += np.exp(g[s + 1 : t + 1].sum()) * (q[t] @ k[s]) * v[s]
    return out


def test_the_recurrence_is_the_sum_that_it_stands_for() -> None:
    q, k, v, g = inputs(17, 1, 1, batch=1)
    expected = by_hand(q[0].numpy(), k[0].numpy(), v[0].numpy(), g[0, :, 0].numpy())
    assert np.allclose(sequential(q, k, v, g, 1)[0].numpy(), expected, rtol=1e-12)


@settings(max_examples=40, deadline=None)
@given(
    length=st.integers(1, 90),
    layout=st.sampled_from([(1, 1), (4, 1), (4, 2), (3, 3)]),
    chunk=st.sampled_from([None, 1, 7, 16]),
    seed=st.integers(0, 1000),
)
def test_chunks_equal_the_recurrence(
    length: int, layout: tuple[int, int], chunk: int | None, seed: int
) -> None:
    heads, groups = layout
    parts = inputs(length, heads, groups, seed=seed)
    expected = sequential(*parts, heads, groups)
    assert torch.allclose(chunked(*parts, heads, groups, chunk), expected, rtol=1e-10, atol=1e-10)


@pytest.mark.parametrize("length", [256, 4096, 16384])
def test_float32_is_exact_to_rounding_at_any_length(length: int) -> None:
    parts = inputs(length, 2, 1, batch=1)
    parts[3].mul_(torch.logspace(-6, 3, length, dtype=torch.float64)[None, :, None])
    exact = sequential(*parts, 2, 1)
    found = gated_scan(*(part.float() for part in parts), 2, 1)
    assert (found - exact).abs().max() <= 1e-5 * exact.abs().max()


@pytest.mark.parametrize(("heads", "groups"), [(1, 1), (2, 1), (4, 2)])
def test_gradients_of_the_operator(heads: int, groups: int) -> None:
    parts = [part.requires_grad_() for part in inputs(21, heads, groups)]
    assert torch.autograd.gradcheck(lambda *x: gated_scan(*x, heads, groups), parts)


def test_float32_gradients_at_length_4096() -> None:
    exact = inputs(4096, 2, 1, batch=1)
    for part in exact:
        part.requires_grad_()
    single = [part.detach().float().requires_grad_() for part in exact]
    weight = torch.randn(1, 4096, 8, generator=torch.Generator().manual_seed(1))
    (sequential(*exact, 2, 1) * weight).sum().backward()
    (gated_scan(*single, 2, 1) * weight).sum().backward()
    for one, other in zip(exact, single, strict=True):
        assert (one.grad - other.grad).abs().max() <= 1e-5 * one.grad.abs().max()


def test_a_sequence_may_be_cut_if_it_forgets_at_the_cut() -> None:
    parts = inputs(40, 2, 1)
    parts[3][:, 25] = -1e4
    whole = gated_scan(*parts, 2, 1)
    second = gated_scan(*(part[:, 25:].contiguous() for part in parts), 2, 1)
    assert torch.allclose(whole[:, 25:], second, rtol=1e-12)


def test_under_autocast_it_stays_in_float32() -> None:
    parts = [part.float().requires_grad_() for part in inputs(40, 2, 1)]
    expected = gated_scan(*parts, 2, 1)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        found = gated_scan(*(part.bfloat16() for part in parts[:3]), parts[3], 2, 1)
        found.sum().backward()
    assert found.dtype == torch.float32
    assert (found - expected).abs().max() <= 0.05 * expected.abs().max()


def test_operator_contract() -> None:
    parts = inputs(9, 2, 1)
    torch.library.opcheck(gated_scan, (*parts, 2, 1))


def test_shapes_that_do_not_fit_are_refused() -> None:
    q, k, v, g = inputs(9, 2, 1)
    for bad in ([q, k[:, :8], v, g, 2, 1], [q, k, v, g, 3, 1], [q, k, v[..., :7], g, 2, 1]):
        with pytest.raises(ValueError, match="gated_scan"):
            gated_scan(*bad)


def test_chunks_are_near_the_root_of_the_length() -> None:
    assert [chunk_length(t) for t in (1, 49, 256, 1024, 4096, 16384)] == [16, 16, 16, 32, 64, 64]


@pytest.mark.parametrize("architecture", ["ssd", "s6"])
def test_an_odd_image_does_not_blow_up(architecture: str) -> None:
    """Logits grow no faster than the input, whatever the input; products of it would grow as powers."""
    extra = {"head": 8} if architecture == "ssd" else {}
    torch.manual_seed(0)
    net = import_module(f"edgeward.models.zoo.{architecture}").build(
        num_classes=3,
        in_chans=3,
        image_size=(32, 32),
        drop_rate=0.0,
        dims=[16, 32],
        inner=[32, 32],
        blocks="csc-scs",
        expand=2,
        order="cross",
        state=8,
        **extra,
    )
    usual = torch.randn(64, 3, 32, 32)
    with torch.no_grad():
        for _ in range(20):
            net.train()(usual)  # settle the running statistics
        size = net.eval()(usual).abs().max()
        for factor in (1e2, 1e4):
            assert net(factor * usual).abs().max() <= 100 * factor * size
