"""What runs a model on a device, as an object: a runtime is a folder of this package, and nothing else asks which one it is.

A folder ``runtimes/<name>/`` holds

``runtime.py``
    `RUNTIME`, a `Runtime`: its facts. Standard library only.
``config.py``
    `Engine`, the keys of ``engine`` in a device's YAML; where it writes files, `Export`, those of the group ``export``.
``agent.py``
    `Engine`: the engine on a device; see `edgeward.runtimes.agent`.
``kernels.py``
    `NAMES`, a `edgeward.runtimes.kernels.KernelNames`: what its operators do.

Where it writes files of its own, and does not take those of another runtime (`Runtime.file_of`), also

``quantizer.py``
    `QUANTIZER`, a subclass of `edgeward.runtimes.quantizer.EngineQuantizer`: which operators are quantized for it.
``export.py``
    ``write(program, cfg, properties, path)``: from ``model.pt2`` to the file.
``session.py``
    ``open_session(path, threads, fused) -> Session``: the engine on this machine.
``graph.py``
    ``read_graph(path, batch) -> GraphFacts``: what a file holds.
``probes.py``
    ``write(folder) -> list[Probe]``: small files that show how fast a device multiplies.

Only the part that a stage needs is imported (`edgeward.core.plugins.load`).
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from pydantic import Field

from edgeward.core.config import Closed
from edgeward.core.plugins import load
from edgeward.runtimes.tolerance import FileParityConfig

if TYPE_CHECKING:
    import numpy as np

REFERENCE = "onnxruntime"
"""The runtime that `assess` judges with, whose logits those of devices are compared with, and whose file ships."""


@dataclass(frozen=True)
class Runtime:
    """The facts of a runtime that other rooms read.

    Attributes
    ----------
    name : of the folder.
    title : its name in a sentence.
    suffix : of the files that it takes.
    file_of : name of the runtime whose quantizer and exporter make these files; often its own.
    """

    name: str
    title: str
    suffix: str
    file_of: str


def runtime(name: str, where: str) -> Runtime:
    """Return a runtime by its name; `where` names the file or key that it stands in, for the error."""
    found: Runtime = load("edgeward.runtimes", name, "runtime", where).RUNTIME
    return found


class EngineConfig(Closed):
    """Keys of ``engine`` of a device; a runtime adds its own, and `name` as a literal."""

    name: str

    @property
    def asked_for(self) -> list[str]:
        """Names of the parts of the engine that shall execute: execution providers, processors."""
        raise NotImplementedError


class ExportConfig(Closed):
    """Keys of the group ``export``; a runtime that writes files adds its own, and `runtime` as a literal."""

    runtime: str = Field(description="For which the file is written.")
    parity: FileParityConfig = FileParityConfig()


@dataclass(frozen=True)
class GraphFacts:
    """What a file holds, at one batch size.

    Attributes
    ----------
    parameters : elements of the weights and biases (scales, zero points and shapes not counted).
    macs : multiply-accumulates per inference, per image.
    precision : "int8" if the graph quantises, otherwise the type of the weights, e.g. "fp32".
    operators : operator type -> number of nodes.
    uncounted : operator types that multiply but are not in `macs`.
    node_macs : name of a node -> its MACs per inference, where attributes are needed to count them.
    """

    input_shape: list[int]
    parameters: int
    macs: int
    precision: str
    operators: dict[str, int]
    uncounted: list[str]
    metadata: dict[str, str]
    node_macs: dict[str, int]


@dataclass(frozen=True)
class Probe:
    """A small file of layers of one kind, by which the rate of a device is measured.

    Attributes
    ----------
    graph, precision : what it multiplies, and in which type: "fp32" or "int8".
    macs : multiply-accumulates of one inference.
    path : of the file.
    """

    graph: str
    precision: str
    macs: int
    path: Path


class Session(ABC):
    """A model in the engine on this machine: one image tensor in, one tensor of logits out.

    Attributes
    ----------
    shape : (c, *spatial) of an image that it takes.
    engine : name and version of the engine, e.g. ("onnxruntime", "1.31.1").
    """

    shape: tuple[int, ...]
    engine: tuple[str, str]

    @abstractmethod
    def run(self, images: np.ndarray) -> np.ndarray:
        """Return the logits, float32 (b, n_classes) or (b, n_labels, *spatial), of float32 (b, c, *spatial), 0-255."""

    @abstractmethod
    def metadata(self) -> Mapping[str, str]:
        """Return the properties that the stage `export` wrote into the file, each as JSON."""
