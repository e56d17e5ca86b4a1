"""The layers that hold nearly all weights: convolutions and linear layers."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TypeAlias

from torch import nn

from edgeward.core.errors import UserError, unknown

Weighted: TypeAlias = nn.Conv2d | nn.Conv3d | nn.Linear


def weighted_layers(module: nn.Module, keep: Sequence[str], key: str) -> dict[str, Weighted]:
    """Return the convolutions and linear layers of `module` by name, in its order.

    Parameters
    ----------
    keep : names of modules that are left out, with all that is in them.
    key : the setting that `keep` comes from, for the message.

    Raises
    ------
    UserError
        If a name in `keep` is no module, or no layer is left.
    """
    known = [name for name, _ in module.named_modules() if name]
    for name in keep:
        if name not in known:
            raise unknown("module", name, known, f"compress.steps[..].{key}")
    found = {
        name: layer
        for name, layer in module.named_modules()
        if isinstance(layer, Weighted)
        and not any(name == kept or name.startswith(f"{kept}.") for kept in keep)
    }
    if not found:
        raise UserError(
            f"compress.steps[..].{key} leaves no convolution or linear layer of this network to work on."
        )
    return found
