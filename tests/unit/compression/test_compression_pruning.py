"""Magnitude pruning: which weights go, when, and that they stay gone."""

from __future__ import annotations

import copy
import math
import sys
from pathlib import Path
from types import ModuleType
from typing import cast

import numpy as np
import pytest
import torch
from compression_nets import Residual
from guides import python
from hypothesis import given
from hypothesis import strategies as st
from refusals import naming
from torch import nn
from torch.nn.utils import prune

from edgeward.compression.layers import weighted_layers
from edgeward.compression.pruning import MagnitudePruner, cubic
from edgeward.compression.steps.magnitude_prune import MagnitudePrune
from edgeward.compression.tuning import kept_zeros
from edgeward.compression.workpiece import Workpiece
from edgeward.core.errors import UserError
from edgeward.records.recipe import ModelMeta


def pruner(net: nn.Module, sparsity: float, **schedule: float) -> MagnitudePruner:
    layers = weighted_layers(net, [], "keep_dense")
    values = {"ramp": 0.5, "interval": 1, "least_kept": 0.0, **schedule}
    return MagnitudePruner(
        layers,
        sparsity,
        least_kept=values["least_kept"],
        ramp=values["ramp"],
        interval=int(values["interval"]),
    )


def test_the_ramp_is_that_of_zhu_and_gupta() -> None:
    # s_t = s_f + (s_i - s_f) (1 - (t - t_0) / (n dt))**3 with s_i = 0.
    assert cubic(0.8, 0.0) == 0.0
    assert cubic(0.8, 0.5) == pytest.approx(0.8 - 0.8 / 8)
    assert cubic(0.8, 1.0) == cubic(0.8, 3.0) == 0.8


@given(st.floats(0.01, 0.99), st.floats(0, 1), st.floats(0, 1))
def test_the_ramp_only_rises(final: float, a: float, b: float) -> None:
    low, high = sorted((a, b))
    assert 0 <= cubic(final, low) <= cubic(final, high) <= final


@pytest.mark.parametrize("sparsity", [0.1, 0.5, 0.93])
def test_the_weights_that_go_are_those_of_torchs_own_pruning(sparsity: float) -> None:
    torch.manual_seed(0)
    net = Residual()
    reference = copy.deepcopy(net)
    targets = [(m, "weight") for m in reference.modules() if isinstance(m, nn.Conv2d | nn.Linear)]
    prune.global_unstructured(targets, prune.L1Unstructured, amount=sparsity)
    mine = pruner(net, sparsity)
    mine.prune_to(sparsity)
    masks = mine.finish()
    for name, layer in weighted_layers(net, [], "keep_dense").items():
        theirs = reference.get_submodule(name)
        assert torch.equal(masks[f"{name}.weight"], theirs.weight_mask.bool())
        assert torch.equal(layer.weight, theirs.weight)
    assert not any("parametrizations" in name for name in net.state_dict())


def test_no_layer_is_emptied_and_the_share_still_holds() -> None:
    torch.manual_seed(0)
    net = Residual()
    layers = weighted_layers(net, [], "keep_dense")
    small = next(reversed(layers))
    with torch.no_grad():
        layers[small].weight.mul_(1e-3)
    bare = pruner(copy.deepcopy(net), 0.9)
    bare.prune_to(0.9)
    assert not bare.finish()[f"{small}.weight"].any(), "the test needs a layer that would vanish"
    weight = layers[small].weight.detach().clone()
    mine = pruner(net, 0.9, least_kept=0.05)
    for sparsity in (0.3, 0.8, 0.9):
        mine.prune_to(sparsity)
    masks = mine.finish()
    total = sum(mask.numel() for mask in masks.values())
    assert sum(int((~mask).sum()) for mask in masks.values()) == round(0.9 * total)
    assert all(mask.sum() >= 0.05 * mask.numel() for mask in masks.values())
    kept = masks[f"{small}.weight"]
    assert int(kept.sum()) == math.ceil(0.05 * kept.numel())
    assert weight.abs()[kept].min() >= weight.abs()[~kept].max()


def test_sparsity_and_what_layers_keep_must_fit() -> None:
    values = {"step": "magnitude_prune", "sparsity": 0.95, "least_kept": 0.1, "ramp": 0.5,
              "interval": 1, "keep_dense": [], "finetune": None}  # fmt: skip
    with pytest.raises(ValueError, match=naming("sparsity 0.95", "least_kept 0.1")):
        MagnitudePrune(**values)


def test_sparsity_follows_the_schedule_and_zeros_stay_under_momentum() -> None:
    torch.manual_seed(0)
    net = Residual()
    schedule = pruner(net, 0.8, ramp=0.5, interval=4)
    optimizer = torch.optim.AdamW(net.parameters(), lr=0.05, weight_decay=0.1)
    found, before = [], None
    for step in range(40):
        schedule.on_step_start(step, 40)
        keep = torch.cat([m.mask.flatten() for m in schedule.masks])
        if before is not None:
            assert not (keep & ~before).any(), "a weight came back"
        before = keep
        found.append(1 - keep.double().mean().item())
        net(255 * torch.rand(4, 3, 16, 16)).square().mean().backward()
        optimizer.step()
        optimizer.zero_grad()
    expected = [cubic(0.8, min(step - step % 4, 20) / 20) for step in range(40)]
    np.testing.assert_allclose(found, expected, atol=1 / len(keep))
    masks = schedule.finish()
    for name, mask in masks.items():
        weight = net.get_parameter(name)
        assert torch.equal(weight != 0, mask)


def test_gradients_do_not_reach_kept_zeros() -> None:
    torch.manual_seed(0)
    net = Residual()
    first = pruner(net, 0.6)
    first.prune_to(0.6)
    masks = first.finish()
    optimizer = torch.optim.AdamW(net.parameters(), lr=0.05, weight_decay=0.1, fused=True)
    start = {name: net.get_parameter(name).detach().clone() for name in masks}
    with kept_zeros(net, masks):
        for _ in range(5):
            net(255 * torch.rand(4, 3, 16, 16)).square().mean().backward()
            optimizer.step()
            optimizer.zero_grad()
    for name, mask in masks.items():
        weight = net.get_parameter(name)
        assert torch.equal(weight != 0, mask)
        assert (weight != start[name])[mask].all()
    net(255 * torch.rand(4, 3, 16, 16)).sum().backward()
    assert net.stem.weight.grad[~masks["stem.weight"]].any(), "the hooks are gone"


def test_masks_of_weights_that_are_gone_are_an_error() -> None:
    with (
        pytest.raises(AssertionError, match=naming("'nowhere.weight'")),
        kept_zeros(Residual(), {"nowhere.weight": torch.ones(1, dtype=torch.bool)}),
    ):
        pass


def test_modules_can_be_left_dense() -> None:
    net = Residual()
    assert set(weighted_layers(net, ["stem", "fc"], "keep_dense")) == {"depthwise", "pointwise"}
    with pytest.raises(
        UserError, match=naming("'stemm'", "'stem'", "compress.steps[..].keep_dense")
    ):
        weighted_layers(net, ["stemm"], "keep_dense")
    with pytest.raises(UserError, match=naming("compress.steps[..].keep_dense")):
        weighted_layers(net, ["stem", "fc", "depthwise", "pointwise"], "keep_dense")


def test_the_step_of_the_guide_prunes_its_share(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    shown = ModuleType("random_prune")
    monkeypatch.setitem(sys.modules, shown.__name__, shown)
    exec(python("class RandomPrune"), vars(shown))
    torch.manual_seed(0)
    net, meta = Residual(), cast(ModelMeta, None)
    piece = Workpiece(net, meta, prepared=tmp_path, seed=0, threads=1, work=tmp_path, live=None)
    shown.RandomPrune(step="random_prune", sparsity=0.25).apply(piece)
    zeros = torch.cat([~mask.flatten() for mask in piece.masks.values()])
    assert zeros.double().mean() == pytest.approx(0.25, abs=0.06)
    assert all(torch.equal(net.get_parameter(n) != 0, mask) for n, mask in piece.masks.items())
    assert piece.effect == {"sparsity": 0.25}
