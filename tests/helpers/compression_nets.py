"""Small networks with one feature each, and helpers around them."""

from __future__ import annotations

import collections
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnxruntime
import torch
from torch import nn
from torch.fx import GraphModule, Node

from edgeward.compression.schemes import ptq_specs
from edgeward.models.program import dynamic_batch, export_program
from edgeward.runtimes.onnxruntime.quantizer import OnnxRuntimeQuantizer
from edgeward.runtimes.quantizer import ANNOTATION

EXAMPLE = torch.full((2, 3, 16, 16), 128.0)


class Residual(nn.Module):
    """Depthwise-separable block with a residual sum under a ReLU, a pool and a linear layer."""

    def __init__(self) -> None:
        super().__init__()
        self.stem = nn.Conv2d(3, 8, 3, padding=1)
        self.act = nn.ReLU()
        self.pool = nn.MaxPool2d(2)
        self.depthwise = nn.Conv2d(8, 8, 3, padding=1, groups=8)
        self.pointwise = nn.Conv2d(8, 8, 1)
        self.fc = nn.Linear(8, 3)
        self.register_buffer("scale", torch.full((1, 3, 1, 1), 0.02))

    def forward(self, image: torch.Tensor) -> torch.Tensor:
        x = self.pool(self.act(self.stem(image * self.scale - 1.0)))
        x = torch.relu(x + self.pointwise(torch.relu(self.depthwise(x))))
        return self.fc(x.mean((2, 3)))


class Gated(nn.Module):
    """SiLU, GELU and a squeeze-and-excite product."""

    def __init__(self) -> None:
        super().__init__()
        self.stem = nn.Conv2d(3, 8, 3)
        self.gate = nn.Conv2d(8, 8, 1)
        self.last = nn.Conv2d(8, 8, 1)
        self.fc = nn.Linear(8, 3)

    def forward(self, image: torch.Tensor) -> torch.Tensor:
        x = nn.functional.silu(self.stem(image / 64 - 2))
        x = x * torch.sigmoid(self.gate(x.mean((2, 3), keepdim=True)))
        return self.fc(nn.functional.gelu(self.last(x)).mean((2, 3)))


class Attention(nn.Module):
    """Attention over positions, with a convolution over heads on both sides of the softmax."""

    def __init__(self) -> None:
        super().__init__()
        self.stem = nn.Conv2d(3, 16, 4, stride=4)
        self.qkv = nn.Conv2d(16, 48, 1)
        self.before = nn.Conv2d(2, 2, 1)
        self.after = nn.Conv2d(2, 2, 1)
        self.bias = nn.Parameter(torch.randn(1, 2, 16, 16))
        self.project = nn.Conv2d(16, 16, 1)
        self.fc = nn.Linear(16, 3)

    def forward(self, image: torch.Tensor) -> torch.Tensor:
        x = torch.relu(self.stem(image / 64 - 2))
        q, k, v = self.qkv(x).reshape(-1, 3, 2, 8, 16).unbind(1)
        weights = self.before((q.transpose(-1, -2) @ k) * 8**-0.5 + self.bias).softmax(-1)
        y = (self.after(weights) @ v.transpose(-1, -2)).transpose(-1, -2)
        return self.fc((x + self.project(y.reshape(-1, 16, 4, 4))).mean((2, 3)))


class Tokens(nn.Module):
    """A transformer's residual stream: sums that layer norms read, linear layers on tokens."""

    def __init__(self) -> None:
        super().__init__()
        self.stem = nn.Conv2d(3, 16, 4, stride=4)
        self.norm = nn.LayerNorm(16)
        self.up = nn.Linear(16, 32)
        self.down = nn.Linear(32, 16)
        self.norm2 = nn.LayerNorm(16)
        self.fc = nn.Linear(16, 3)

    def forward(self, image: torch.Tensor) -> torch.Tensor:
        x = self.stem(image / 64 - 2).flatten(2).transpose(1, 2)
        x = x + self.down(nn.functional.gelu(self.up(self.norm(x))))
        return self.fc(self.norm2(x).mean(1))


def annotated(net: nn.Module, keep_float: tuple[str, ...] = ()) -> GraphModule:
    """Return the annotated graph of `net`."""
    graph: Any = export_program(net.eval(), EXAMPLE).module()
    return OnnxRuntimeQuantizer(*ptq_specs("minmax", False), keep_float=keep_float).annotate(graph)


def placement(graph: GraphModule) -> dict[str, tuple[int, bool]]:
    """Map each annotated node to (number of quantized inputs, whether its output is quantized)."""
    return {
        node.name: (
            len(node.meta[ANNOTATION].input_qspec_map),
            node.meta[ANNOTATION].output_qspec is not None,
        )
        for node in graph.graph.nodes
        if ANNOTATION in node.meta
    }


def node_named(graph: GraphModule, name: str) -> Node:
    """Return the node of that name."""
    return next(node for node in graph.graph.nodes if node.name == name)


def onnx_of(program: torch.export.ExportedProgram, example: torch.Tensor, path: Path) -> Path:
    """Write the ONNX file that the export stage would, at opset 20."""
    torch.onnx.export(
        program,
        (example,),
        path,
        dynamo=True,
        opset_version=20,
        dynamic_shapes=dynamic_batch(),
        external_data=False,
        verbose=False,
    )
    return path


def executed(path: Path) -> dict[str, int]:
    """Return how many nodes of each type onnxruntime runs after all its optimisations."""
    target = path.with_suffix(".optimized.onnx")
    session(path, save=target)
    nodes = onnx.load(target).graph.node
    return dict(sorted(collections.Counter(node.op_type for node in nodes).items()))


def session(
    path: Path, *, optimise: bool = True, save: Path | None = None
) -> onnxruntime.InferenceSession:
    """Open a session on one thread, with all optimisations or none."""
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = 1
    options.log_severity_level = 3
    levels = onnxruntime.GraphOptimizationLevel
    options.graph_optimization_level = levels.ORT_ENABLE_ALL if optimise else levels.ORT_DISABLE_ALL
    if save is not None:
        options.optimized_model_filepath = str(save)
    return onnxruntime.InferenceSession(path, options, providers=["CPUExecutionProvider"])


def run(opened: onnxruntime.InferenceSession, images: np.ndarray) -> np.ndarray:
    """Return the logits of `images`."""
    logits: np.ndarray = opened.run(None, {opened.get_inputs()[0].name: images})[0]
    return logits
