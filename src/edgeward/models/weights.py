"""Weights that a network starts from: what timm publishes, or a file; whole, or refused with the names that do not fit.

The network is built with the classes of the weights, loaded strictly, and then gets the head that it needs: rows of the old one, by
the names of classes, where these are known, and otherwise a new one.
"""

from __future__ import annotations

import logging
import os
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from torch import nn

from edgeward.core.archives import check_stored
from edgeward.core.errors import UserError
from edgeward.core.io import sha256
from edgeward.core.patterns import compiled
from edgeward.models.config import WEIGHTS_ROOT, FileWeights, ModelConfig, PublishedWeights
from edgeward.records.recipe import Origin

log = logging.getLogger(__name__)

NESTED = ("state_dict", "model_state_dict", "model", "net", "state_dict_ema", "ema")
PREFIXES = ("module.", "_orig_mod.", "model.", "net.", "backbone.", "encoder.")
NAMED = 6  # parameters in an error
State = dict[str, torch.Tensor]
Make = Callable[[int], nn.Module]
"""From a number of classes to the network, built for it."""


@dataclass
class Weights:
    """Weights as they were found, and what they say of themselves.

    Attributes
    ----------
    state : parameter name -> tensor; None: timm fetches what it publishes.
    classes : of the head; None: unknown, the head is drawn anew.
    mean, std : per channel, scale 0-1, by which images are expected to be normalised; None: they do not say.
    source, digest : where they come from, and the SHA-256 of the file, if there is one.
    drawn : parameters that the network does not take from them. head : those of its last layer.
    """

    where: str
    source: str
    state: State | None = None
    classes: list[str] | None = None
    mean: list[float] | None = None
    std: list[float] | None = None
    digest: str | None = None
    drawn: list[str] = field(default_factory=list)
    head: list[str] = field(default_factory=list)

    @property
    def origin(self) -> Origin:
        """What is kept with a network that started from them."""
        return Origin(source=self.source, sha256=self.digest, drawn=self.drawn)


def find(cfg: ModelConfig) -> Weights | None:
    """Return the weights that a model config asks for, None if it asks for none.

    Raises
    ------
    UserError
        If there are none, or they cannot be read.
    """
    where = f"config/model/{cfg.name}.yaml (key 'weights')"
    if isinstance(cfg.weights, PublishedWeights):
        return _published(cfg, cfg.weights, where)
    return None if cfg.weights is None else _of_file(cfg, cfg.weights, where)


def _published(cfg: ModelConfig, wanted: PublishedWeights, where: str) -> Weights:
    import timm

    if cfg.builder != "timm":
        raise UserError(
            f"{where} is 'pretrained', but only timm publishes weights, and the builder is '{cfg.builder}'. Name a file: "
            "weights: {kind: file, path: ...}."
        )
    known = [n for n in timm.list_pretrained() if n.split(".")[0] == cfg.architecture]
    name = f"{cfg.architecture}.{wanted.tag}" if wanted.tag else cfg.architecture
    if not known or (wanted.tag and name not in known):
        raise UserError(
            f"timm publishes no weights '{name}' (published: {', '.join(known) or 'none'}). Change {where}, or name a file."
        )
    facts = timm.get_pretrained_cfg(name)
    assert facts is not None
    source = facts.hf_hub_id or facts.url or "timm"
    return Weights(where, f"timm {source}", mean=list(facts.mean), std=list(facts.std))


def _of_file(cfg: ModelConfig, wanted: FileWeights, where: str) -> Weights:
    path = wanted.place
    if not path.is_file():
        raise UserError(
            f"{path} is not there; {where} names it. {wanted.whence}Files of weights lie below the weights root: {WEIGHTS_ROOT}, or "
            f"--config weights_root=..., now '{os.environ.get(WEIGHTS_ROOT, '')}'."
        )
    content = read(path)
    found = Weights(where, wanted.path, classes=wanted.classes, digest=sha256(path))
    meta = content.get("meta") if isinstance(content.get("meta"), dict) else None
    if meta is not None and "format" in content:  # of another study of this project
        found.classes = found.classes or list(meta["classes"])
        found.mean, found.std = list(meta["mean"]), list(meta["std"])
        content = {k: v for k, v in content["state_dict"].items() if k.startswith("net.")}
    elif cfg.builder == "timm":
        import timm

        facts = timm.get_pretrained_cfg(cfg.architecture)
        if facts is not None:
            found.mean, found.std = list(facts.mean), list(facts.std)
    if wanted.mean is not None and wanted.std is not None:
        found.mean, found.std = wanted.mean, wanted.std
    found.state = renamed(plain(content), wanted.rename)
    if not found.state:
        raise UserError(
            f"{path} holds no tensors with names; {where} needs a state_dict or safetensors."
        )
    return found


def read(path: Path) -> dict[str, Any]:
    """Read a file of weights without executing anything that it may hold.

    Raises
    ------
    UserError
        If it cannot be read, or holds more than tensors and plain values.
    """
    try:
        if path.suffix == ".safetensors":
            from safetensors.torch import load_file

            return dict(load_file(path))
        check_stored(path)
        content = torch.load(path, map_location="cpu", weights_only=True)
    except UserError:
        raise
    except Exception as error:  # both raise whatever they stumble over
        reason = str(error).splitlines()[0] if str(error) else type(error).__name__
        raise UserError(
            f"{path} cannot be read as weights: {reason}. Save the state_dict alone: torch.save(model.state_dict(), path)."
        ) from error
    if not isinstance(content, dict):
        raise UserError(
            f"{path} holds a {type(content).__name__}, not a state_dict: torch.save(model.state_dict(), path)."
        )
    return content


def plain(content: dict[str, Any]) -> State:
    """Return the tensors of a state_dict, out of what training scripts wrap around it, without the prefix that all names share."""
    for key in NESTED:
        if isinstance(content.get(key), dict):
            content = content[key]
    state = {k: v for k, v in content.items() if isinstance(v, torch.Tensor)}
    while prefix := next(
        (p for p in PREFIXES if state and all(k.startswith(p) for k in state)), ""
    ):
        state = {k.removeprefix(prefix): v for k, v in state.items()}
    return state


def renamed(state: State, rename: dict[str, str]) -> State:
    """Return a state with names changed by regular expressions, each in turn; those that become empty are left out."""
    out: State = {}
    found = [(compiled(pattern, "rename"), new) for pattern, new in rename.items()]
    for name, value in state.items():
        new = name
        for pattern, replacement in found:
            drop = replacement == "" and pattern.search(new)
            new = "" if drop else pattern.sub(replacement, new)
        if new:
            out[new] = value
    return out


def start(
    weights: Weights,
    cfg: ModelConfig,
    make: Make,
    make_from: Callable[[Weights], nn.Module],
    classes: Sequence[str],
) -> nn.Module:
    """Return the network with these weights, and a head for `classes`.

    Parameters
    ----------
    make : builds it with random weights. make_from : lets timm build it with the head of the weights, strictly.
    classes : names, in the order of the logits.

    Raises
    ------
    UserError
        If the weights are those of another network; names what is missing and what is too much.
    """
    if cfg.builder == "timm":
        net = _checked(weights, cfg, lambda: make_from(weights))
        head = net.get_classifier()
        old = head.state_dict() if isinstance(head, nn.Linear | nn.Conv2d) else {}
        if weights.classes is None or list(weights.classes) != list(classes):
            net.reset_classifier(len(classes))
            _keep_rows(weights, old, net, classes)
        weights.head = _names_of(net, net.get_classifier())
        return net
    net = make(len(classes))
    _load_exactly(weights, net, classes)
    return net


def timm_start(cfg: ModelConfig, weights: Weights) -> tuple[str, int, dict[str, Any]]:
    """Return the name, the number of classes, and the changes of timm's facts with which it loads the weights strictly."""
    import timm

    wanted = cfg.weights
    tag = f".{wanted.tag}" if isinstance(wanted, PublishedWeights) and wanted.tag else ""
    facts = timm.get_pretrained_cfg(cfg.architecture + tag)
    if weights.state is None:
        assert facts is not None
        return cfg.architecture + tag, int(facts.num_classes), {}
    overlay: dict[str, Any] = {"state_dict": weights.state}
    rows = 0
    if facts is not None:
        heads = [facts.classifier] if isinstance(facts.classifier, str) else facts.classifier or ()
        rows = next(
            (len(v) for h in heads if (v := weights.state.get(f"{h}.weight")) is not None), 0
        )
        stems = [facts.first_conv] if isinstance(facts.first_conv, str) else facts.first_conv or ()
        for stem in stems:
            if (first := weights.state.get(f"{stem}.weight")) is not None:
                overlay["input_size"] = (first.shape[1], *facts.input_size[1:])
    rows = rows or len(weights.classes or [])
    return cfg.architecture, rows, overlay | {"num_classes": rows}


def _checked(weights: Weights, cfg: ModelConfig, make: Callable[[], nn.Module]) -> nn.Module:
    """Build with timm, and say of its errors what the user can do."""
    try:
        return make()
    except RuntimeError as error:  # of load_state_dict, which names the parameters
        raise UserError(
            f"{weights.source} does not hold the weights of '{cfg.architecture}': {_named(str(error))}. If names differ only, map them "
            f"(rename in {weights.where})."
        ) from error
    except Exception as error:  # the hub's client has a dozen types of its own
        if weights.state is not None:
            raise
        raise UserError(
            f"{weights.source}: the weights of '{cfg.architecture}' cannot be fetched ({_first_line(error)}). Without internet, put the "
            "file (model.safetensors of that address) below the weights root and name it: weights: {kind: file, path: ...} "
            f"in {weights.where}."
        ) from error


def _load_exactly(weights: Weights, net: nn.Module, classes: Sequence[str]) -> None:
    """Load a state into a network of ours; what has as many rows as the weights have classes is its head."""
    assert weights.state is not None
    own, given = net.state_dict(), dict(weights.state)
    known = list(weights.classes or [])
    same = known == list(classes)
    head = [
        name
        for name, value in own.items()
        if name in given
        and given[name].shape != value.shape
        and given[name].shape[1:] == value.shape[1:]
        and (not known or len(given[name]) == len(known))
    ]
    if not same and not head:
        head = _last(own, len(classes))
    missing = [name for name in own if name not in given]
    strange = [name for name in given if name not in own]
    shapes = [
        f"{name} {tuple(given[name].shape)}, not {tuple(own[name].shape)}"
        for name in own
        if name in given and name not in head and given[name].shape != own[name].shape
    ]
    if missing or strange or shapes:
        found = [f"{what}: {_some(names)}" for what, names in (
            ("missing", missing), ("not in the network", strange), ("of another shape", shapes),
        ) if names]  # fmt: skip
        raise UserError(
            f"{weights.source} does not hold these weights; {'; '.join(found)}. If names differ only, map them (rename in {weights.where})."
        )
    rows, weights.head = _rows(known, classes), head or _last(own, len(classes))
    with torch.no_grad():
        for name, value in own.items():
            if name not in head:
                value.copy_(given[name])
            elif rows is not None and len(given[name]) == len(known):
                value.copy_(given[name][rows])
            else:
                weights.drawn.append(name)


def _last(state: State, rows: int) -> list[str]:
    """Return the parameters of the last layer that has so many rows."""
    names = [name for name, value in state.items() if value.ndim and len(value) == rows]
    return (
        [n for n in names if n.rpartition(".")[0] == names[-1].rpartition(".")[0]] if names else []
    )


def _rows(known: Sequence[str], classes: Sequence[str]) -> list[int] | None:
    """Return the rows of the old head for these classes; None if one of them is not known."""
    return [known.index(c) for c in classes] if known and {*classes} <= {*known} else None


def _names_of(net: nn.Module, part: nn.Module) -> list[str]:
    """Return the names of the parameters of a part of a network."""
    mine = {id(p) for p in part.parameters()}
    return [name for name, p in net.named_parameters() if id(p) in mine]


def _keep_rows(weights: Weights, old: State, net: nn.Module, classes: Sequence[str]) -> None:
    """Fill a new head with the rows of the old one where classes are known by name; else it stays as it was drawn."""
    rows, head = _rows(weights.classes or [], classes), net.get_classifier()
    own = head.state_dict()
    fits = (
        rows is not None
        and all(len(v) == len(weights.classes or []) for v in old.values())
        and {*old} == {*own}
    )
    if not fits:
        weights.drawn += _names_of(net, head)
        return
    with torch.no_grad():
        for name, value in own.items():
            value.copy_(old[name][rows])


def _named(message: str) -> str:
    """Shorten what torch says of names that do not fit."""
    lines = [" ".join(line.split()) for line in message.splitlines()[1:] if line.strip()]
    return "; ".join(line[:300].rstrip(". ") for line in lines[:NAMED]) or _first_line(message)


def _some(names: Sequence[str]) -> str:
    more = f" and {len(names) - NAMED} more" if len(names) > NAMED else ""
    return ", ".join(names[:NAMED]) + more


def _first_line(error: object) -> str:
    return (str(error).strip() or type(error).__name__).splitlines()[0].rstrip(".")
