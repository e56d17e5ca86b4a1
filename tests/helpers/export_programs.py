"""Small programs to export, and the recipe that goes with them."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import torch
from small_data import meta
from torch import nn
from torch.export import ExportedProgram

from edgeward.data.store import Prepared, to_input
from edgeward.models.deploy import Deployable, reparameterize
from edgeward.models.program import export_program
from edgeward.records.recipe import Recipe

GOLDEN = Path(__file__).parents[1] / "golden"
MEAN, STD = [0.6, 0.55, 0.5], [0.2, 0.2, 0.2]


class Residual(nn.Module):
    """Convolutions, a depthwise one, a shortcut and a linear layer: what mobile nets are made of."""

    def __init__(self, classes: int) -> None:
        super().__init__()
        self.stem = nn.Sequential(nn.Conv2d(3, 16, 3, 2, 1), nn.ReLU())
        self.deep = nn.Sequential(
            nn.Conv2d(16, 16, 3, 1, 1, groups=16), nn.ReLU(), nn.Conv2d(16, 16, 1)
        )
        self.head = nn.Linear(16, classes)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = self.stem(x)
        x = torch.relu(x + self.deep(x))
        return self.head(x.mean((2, 3)))


def trained(data: Prepared) -> nn.Module:
    """A small net after a few seconds of training: its logits mean something."""
    torch.manual_seed(0)
    module = Deployable(Residual(len(data.classes)), MEAN, STD)
    index = data.indices("train")
    images = torch.from_numpy(to_input(data.images[index]))
    labels = torch.from_numpy(data.labels[index])
    optimiser = torch.optim.Adam(module.parameters(), 1e-2)
    for _ in range(40):
        optimiser.zero_grad()
        nn.functional.cross_entropy(module(images), labels).backward()
        optimiser.step()
    return module.eval()


def calibration_images(data: Prepared) -> torch.Tensor:
    """The calibration images as a batch."""
    return torch.from_numpy(to_input(data.images[data.calibration]))


def zoo(name: str, **options: int) -> nn.Module:
    """A network of timm in its single-branch form, untrained, for 64x64 images."""
    import timm

    torch.manual_seed(0)
    net = timm.create_model(name, num_classes=3, **options)
    return reparameterize(Deployable(net, MEAN, STD))


def to_int8(module: nn.Module, images: torch.Tensor) -> ExportedProgram:
    """Quantise with torchao, placed for onnxruntime, biases as the integer kernels hold them."""
    from torchao.quantization.pt2e.quantize_pt2e import convert_pt2e, prepare_pt2e

    from edgeward.compression.numerics import quantize_biases
    from edgeward.compression.schemes import ptq_specs
    from edgeward.runtimes.onnxruntime.quantizer import OnnxRuntimeQuantizer

    graph = export_program(module, images[:2]).module()
    specs = ptq_specs("minmax", OnnxRuntimeQuantizer.saturates())
    prepared = prepare_pt2e(graph, OnnxRuntimeQuantizer(*specs, keep_float=[]))
    with torch.no_grad():
        prepared(images)
    converted = convert_pt2e(prepared, fold_quantize=True)
    quantize_biases(converted)
    return export_program(converted, images[:2])


def recipe(data: Prepared, precision: str) -> dict[str, Any]:
    """What compress writes beside the program."""
    assert data.card.image_shape is not None
    return {
        "schema": Recipe.FORMAT,
        "recipe": "fp32" if precision == "fp32" else "ptq_int8",
        "steps": [{"step": "reparameterize"}],
        "precision": precision,
        "backend": "torch",
        "versions": {"torch": torch.__version__},
        "scheme": {"activation": "float32", "weight": "float32"},
        "calibration": {"n": 0, "sha256": None},
        "keep_float": [],
        "quantized_parameter_share": 0.0,
        "effects": [],
        "parameters": 1,
        "program_bytes": 1,
        "meta": meta(
            model={"name": "residual", "dense": False},
            task=data.task,
            mean=MEAN,
            std=STD,
            image_size=data.card.image_shape[:2],
            classes=data.classes,
        ).content(),
    }


def golden(name: str) -> dict[str, int]:
    """The committed operator histogram of an exported model."""
    return json.loads((GOLDEN / f"export_{name}.json").read_text())
