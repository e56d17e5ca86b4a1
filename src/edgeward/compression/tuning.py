"""Fine-tuning inside a recipe: what every step that trains does alike."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager

import torch
from torch import nn
from torch.fx import GraphModule

from edgeward.compression.constraint.training import constrain
from edgeward.compression.workpiece import Workpiece
from edgeward.tasks.training import Loss
from edgeward.training.config import FinetuneConfig
from edgeward.training.finetune import Mode, finetune
from edgeward.training.task import layout_of

aten = torch.ops.aten


def _train(model: nn.Module) -> None:
    model.train()


def _eval(model: nn.Module) -> None:
    model.eval()


def tune(
    piece: Workpiece,
    model: nn.Module,
    cfg: FinetuneConfig,
    *,
    masked: nn.Module | None = None,
    set_train: Mode = _train,
    set_eval: Mode = _eval,
    on_epoch_start: Callable[[int], None] | None = None,
    on_step_start: Callable[[int, int], None] | None = None,
    loss: Loss | None = None,
) -> None:
    """Fine-tune `model` in place by `finetune`, keep the piece's zeros, and record the epochs.

    Parameters
    ----------
    model : a form of the piece's module that can be trained.
    masked : the part of `model` whose weights have the names of the piece's masks, if not all of it.
    """
    record = piece.found.setdefault("history", [])
    before, live = len(record), piece.live

    def number_on(epoch: int, metrics: dict[str, float]) -> None:
        assert live is not None
        live(before + epoch, metrics)

    with (
        kept_zeros(masked or model, piece.masks),
        channels_last(model, piece.data.spatial_dims) as layout,
    ):
        rows = finetune(
            model,
            piece.data,
            cfg,
            seed=piece.seed,
            work=piece.work,
            threads=piece.threads,
            meta=piece.meta,
            set_train=set_train,
            set_eval=set_eval,
            on_epoch_start=on_epoch_start,
            on_step_start=on_step_start,
            live=None if live is None else number_on,
            loss=loss,
            constraint=constrain(piece, cfg),
            memory_format=layout,
        )
    record += [{**row, "epoch": before + row["epoch"]} for row in rows]
    piece.metrics.update(
        {
            key: value
            for key, value in rows[-1].items()
            if key.startswith(("train_", "val_", "violation_", "multiplier_"))
            or key == "images_per_second"
        }
    )


@contextmanager
def channels_last(model: nn.Module, spatial_dims: int) -> Iterator[torch.memory_format]:
    """Lay out the weights of layers of 2 or 3 axes channels last, as training does; yield that format.

    A captured graph says `view` where a tensor of the layout of its example can be one; meanwhile it says `reshape`.
    """
    layout = layout_of("channels_last", spatial_dims)
    graphs = [part for part in model.modules() if isinstance(part, GraphModule)]
    views = [node for g in graphs for node in g.graph.nodes if node.target is aten.view.default]

    def write(target: Callable[..., torch.Tensor], memory_format: torch.memory_format) -> None:
        for node in views:
            node.target = target
        for graph in graphs:
            graph.recompile()
        model.to(memory_format=memory_format)

    write(aten.reshape.default, layout)
    try:
        yield layout
    finally:
        write(aten.view.default, torch.contiguous_format)


@contextmanager
def kept_zeros(model: nn.Module, masks: dict[str, torch.Tensor]) -> Iterator[None]:
    """Let no gradient reach the zeros of pruned weights.

    A weight that is zero when AdamW starts, and whose gradient always is, stays zero: its moments
    are zero, and decay multiplies.
    """
    weights = dict(model.named_parameters())
    lost = sorted(masks.keys() - weights.keys())
    if lost:
        raise AssertionError(f"pruned weights are gone: {lost}")

    def stop(mask: torch.Tensor) -> Callable[[torch.Tensor], torch.Tensor]:
        return lambda gradient: gradient * mask

    handles = [weights[name].register_hook(stop(mask)) for name, mask in masks.items()]
    try:
        yield
    finally:
        for handle in handles:
            handle.remove()
