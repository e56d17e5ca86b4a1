"""``model.pt``: weights and the facts needed to use them, readable without executing anything."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
from pydantic import ValidationError

from edgeward.core.archives import check_stored
from edgeward.core.errors import UserError
from edgeward.core.io import atomic
from edgeward.models.config import ModelConfig
from edgeward.models.deploy import Deployable
from edgeward.models.factory import build
from edgeward.records.recipe import ModelMeta

FORMAT = 1


def save_checkpoint(path: Path, deployable: Deployable, meta: ModelMeta) -> None:
    """Write ``{"format", "state_dict", "meta"}`` to `path`, atomically.

    Parameters
    ----------
    deployable : in its train form; weights are stored on the CPU, contiguous.

    Raises
    ------
    UserError
        If a weight is not finite.
    """
    state = {
        key: value.detach().cpu().contiguous() for key, value in deployable.state_dict().items()
    }
    bad = [key for key, value in state.items() if not torch.isfinite(value).all()]
    if bad:
        raise UserError(
            f"model '{meta.model['name']}' has weights that are not finite ({bad[0]} and "
            f"{len(bad) - 1} more): training diverged; lower train.lr or train.grad_clip."
        )
    # Through a handle: given a path, torch would store the temporary file's name in the archive.
    with atomic(Path(path)) as temporary, temporary.open("wb") as handle:
        content = {"format": FORMAT, "state_dict": state, "meta": meta.content()}
        torch.save(content, handle)


def load_checkpoint(path: Path) -> tuple[Deployable, ModelMeta]:
    """Read `path` into a Deployable in train form and eval mode, and its meta.

    Raises
    ------
    UserError
        If the file is not a checkpoint of this format, or does not fit the network it names.
    """
    path = Path(path)
    content = read_tensors(path)
    if not isinstance(content, dict) or content.get("format") != FORMAT:
        raise UserError(f"{path} is not an edgeward checkpoint of format {FORMAT}; train again.")
    try:
        meta = ModelMeta.model_validate(content["meta"])
    except ValidationError as error:
        key = ".".join(map(str, error.errors()[0]["loc"]))
        raise UserError(f"{path}: meta.{key}: {error.errors()[0]['msg']}; train again.") from None
    net = build(
        ModelConfig.model_validate(meta.model),
        num_classes=meta.n_labels,
        in_chans=meta.in_chans,
        image_size=meta.image_size,
    )
    deployable = Deployable(net, meta.mean, meta.std, meta.spatial_dims)
    try:
        deployable.load_state_dict(content["state_dict"])
    except RuntimeError as error:
        raise UserError(
            f"{path} holds other weights than '{meta.model['architecture']}' has; train again."
        ) from error
    return deployable.eval(), meta


def read_tensors(path: Path) -> Any:
    """Read what `torch.save` wrote, without executing anything that it may hold.

    Raises
    ------
    UserError
        If the file does not exist, is cut off, or holds more than tensors and plain values.
    """
    try:
        check_stored(path)
        return torch.load(path, map_location="cpu", weights_only=True)
    except FileNotFoundError as error:
        raise UserError(f"{path} does not exist: run the stage that writes it first.") from error
    except UserError:
        raise
    except Exception as error:  # garbage makes the unpickler raise whatever it stumbles over
        raise UserError(
            f"{path} is not a readable checkpoint ({type(error).__name__}); delete it and run again."
        ) from error
