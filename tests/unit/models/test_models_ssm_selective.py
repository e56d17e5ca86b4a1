"""Selective scan: against float64 step by step, gradients, and sequences that are split."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.signal import lfilter
from torch import Tensor

from edgeward.models.ssm.reference import sequential_scan
from edgeward.models.ssm.selective import selective_scan, steps_at_once

torch.set_num_threads(1)


def inputs(
    length: int, k: int, batch: int, d: int, n: int, dtype: torch.dtype, seed: int = 0
) -> list[Tensor]:
    """u, dt, A, B, C; dt log-uniform in 1e-4 .. 10, A around -1, so decays from 1 to exp(-100)."""
    generator = torch.Generator().manual_seed(seed)

    def normal(*shape: int) -> Tensor:
        return torch.randn(shape, generator=generator, dtype=torch.float64)

    steps = torch.rand(length, k, batch, d, generator=generator, dtype=torch.float64) * 5 - 4
    values = [
        normal(length, k, batch, d),
        10**steps,
        -normal(k, n, d).exp(),
        normal(length, k, batch, n),
        normal(length, k, batch, n),
    ]
    return [value.to(dtype) for value in values]


def reference(values: list[Tensor]) -> np.ndarray:
    return sequential_scan(*[value.detach().numpy() for value in values])[0]


def error(found: np.ndarray, expected: np.ndarray) -> float:
    return float(np.abs(found - expected).max() / np.abs(expected).max())


def sequential_gradients(values: list[Tensor], weight: Tensor) -> list[np.ndarray]:
    """Gradients of sum(weight * y) in float64 by the adjoint recurrence, a step at a time.

    G_t = C_t w_t + exp(dt_{t+1} A) G_{t+1}; then by the product rule of each step.
    """
    u, dt, a, b, c = (value.detach().double().numpy() for value in values)
    w = weight.double().numpy()
    states = [np.zeros((a.shape[0], u.shape[2], *a.shape[1:]))]
    for t in range(len(u)):
        decay = np.exp(dt[t][:, :, None] * a[:, None])
        states.append(decay * states[-1] + b[t][..., None] * (dt[t] * u[t])[:, :, None])
    du, ddt, db, dc = (np.zeros_like(x) for x in (u, dt, b, c))
    da, g = np.zeros_like(a), np.zeros_like(states[0])
    for t in reversed(range(len(u))):
        decay = np.exp(dt[t][:, :, None] * a[:, None])
        g = g + c[t][..., None] * w[t][:, :, None]
        dc[t] = (states[t + 1] * w[t][:, :, None]).sum(-1)
        db[t] = (g * (dt[t] * u[t])[:, :, None]).sum(-1)
        dx = (g * b[t][..., None]).sum(-2)
        rate = g * decay * states[t]
        du[t], ddt[t] = dx * dt[t], dx * u[t] + (rate * a[:, None]).sum(-2)
        da += (rate * dt[t][:, :, None]).sum(1)
        g = g * decay
    return [du, ddt, da, db, dc]


@pytest.mark.parametrize(
    "shape", [(1, 1, 1, 1, 1), (2, 4, 3, 5, 2), (255, 2, 2, 6, 4), (1024, 4, 2, 24, 16)]
)
def test_forward_is_the_recurrence(shape: tuple[int, int, int, int, int]) -> None:
    values = inputs(*shape, torch.float32)
    assert error(selective_scan(*values).numpy(), reference(values)) < 1e-6


@pytest.mark.parametrize("length", [257, 16384])
def test_long_sequences_forward_and_backward_in_float32(length: int) -> None:
    values = [v.requires_grad_() for v in inputs(length, 2, 1, 4, 4, torch.float32, seed=length)]
    weight = torch.randn(length, 2, 1, 4, generator=torch.Generator().manual_seed(1))
    y = selective_scan(*values)
    assert error(y.detach().numpy(), reference(values)) < 1e-5
    (y * weight).sum().backward()
    for name, value, expected in zip(
        ["u", "dt", "A", "B", "C"], values, sequential_gradients(values, weight), strict=True
    ):
        assert error(value.grad.numpy(), expected) < 1e-5, name


@pytest.mark.parametrize("shape", [(1, 1, 2, 1, 1), (4, 2, 1, 2, 3), (7, 1, 2, 3, 2)])
def test_gradients_are_those_of_finite_differences(shape: tuple[int, int, int, int, int]) -> None:
    values = inputs(*shape, torch.float64)
    values[1] = values[1].clamp(max=2)  # finite differences need curvature that is not extreme
    assert torch.autograd.gradcheck(selective_scan, [v.requires_grad_() for v in values])


def test_operator_keeps_the_rules_of_torch() -> None:
    values = [v.requires_grad_() for v in inputs(5, 2, 2, 3, 2, torch.float64)]
    torch.library.opcheck(
        torch.ops.edgeward.selective_scan.default,
        tuple(values),
        test_utils=["test_schema", "test_autograd_registration", "test_faketensor"],
    )


def test_one_state_with_constant_decay_is_a_first_order_filter() -> None:
    rng = np.random.default_rng(0)
    u = rng.normal(size=500)
    dt, a = 0.3, -0.7
    y = selective_scan(
        torch.from_numpy(u).view(-1, 1, 1, 1),
        torch.full((500, 1, 1, 1), dt, dtype=torch.float64),
        torch.full((1, 1, 1), a, dtype=torch.float64),
        *[torch.ones(500, 1, 1, 1, dtype=torch.float64) for _ in range(2)],
    )
    expected = lfilter([dt], [1, -np.exp(dt * a)], u)
    np.testing.assert_allclose(y.flatten().numpy(), expected, rtol=1e-12)


@settings(max_examples=25, deadline=None)
@given(st.integers(2, 40), st.data())
def test_a_split_sequence_with_the_state_carried_over_gives_the_same(
    length: int, data: st.DataObject
) -> None:
    """What makes the scan associative; the part after the cut sees the first only in its state."""
    cut = data.draw(st.integers(1, length - 1))
    values = inputs(length, 2, 1, 3, 2, torch.float64, seed=length)
    u, dt, a, b, c = (value.numpy() for value in values)
    head, state = sequential_scan(u[:cut], dt[:cut], a, b[:cut], c[:cut])
    tail, _ = sequential_scan(u[cut:], dt[cut:], a, b[cut:], c[cut:], state)
    whole = selective_scan(*values).numpy()
    np.testing.assert_allclose(whole, np.concatenate([head, tail]), rtol=1e-9, atol=1e-12)
    # The state enters linearly: alone it gives what the sequences have in common.
    zero, _ = sequential_scan(u[cut:], dt[cut:], a, b[cut:], c[cut:])
    free, _ = sequential_scan(0 * u[cut:], dt[cut:], a, b[cut:], c[cut:], state)
    np.testing.assert_allclose(zero + free, tail, rtol=1e-9, atol=1e-12)


@given(st.integers(1, 20000))
def test_chunks_cover_the_sequence_and_memory_is_of_its_root(length: int) -> None:
    step = steps_at_once(length)
    chunks = -(-length // step)
    assert (chunks - 1) * step < length <= chunks * step
    assert step + chunks <= 2 * length**0.5 + 2


def test_kept_for_the_backward_pass_are_states_of_chunks_only() -> None:
    values = [v.requires_grad_() for v in inputs(1024, 1, 1, 8, 4, torch.float32)]
    kept: list[int] = []

    def pack(tensor: Tensor) -> Tensor:
        kept.append(tensor.numel())
        return tensor

    with torch.autograd.graph.saved_tensors_hooks(pack, lambda tensor: tensor):
        selective_scan(*values)
    assert sum(kept) == sum(v.numel() for v in values) + 32 * 8 * 4


def test_autocast_leaves_the_recurrence_in_float32() -> None:
    values = inputs(64, 2, 1, 4, 4, torch.float32)
    expected = selective_scan(*values)
    with torch.autocast("cpu", torch.bfloat16):
        found = selective_scan(*values)
    assert found.dtype == torch.float32
    assert torch.equal(found, expected)


def test_layout_of_the_inputs_does_not_matter() -> None:
    values = inputs(9, 2, 3, 4, 2, torch.float64)
    strided = [v.transpose(0, -1).contiguous().transpose(0, -1) for v in values]
    assert torch.equal(selective_scan(*strided), selective_scan(*values))


def test_shapes_that_do_not_fit_are_refused() -> None:
    values = inputs(6, 2, 1, 3, 2, torch.float32)
    for index in range(1, 5):
        wrong = list(values)
        wrong[index] = wrong[index][:, :1]
        with pytest.raises(ValueError, match=r"selective_scan: (dt|a|b|c) is"):
            selective_scan(*wrong)
    with pytest.raises(ValueError, match="float64"):
        selective_scan(values[0], values[1].double(), *values[2:])
