"""What runs a model on a device, as an object: a runtime is a folder of this package, and nothing else asks which one it is.

A folder ``runtimes/<name>/`` holds

``runtime.py``
    `RUNTIME`, a `Runtime`: its facts. Standard library only.
``config.py``
    `Engine`, the keys of ``engine`` in a device's YAML; the reference's also `Export`, those of the group ``export``, and others that
    write files `Port`.
``agent.py``
    `Engine`: the engine on a device; see `edgeward.runtimes.agent`.
``kernels.py``
    `NAMES`, a `edgeward.runtimes.kernels.KernelNames`: what its operators do.

Where it writes files of its own, and does not take those of another runtime (`Runtime.file_of`), also

``quantizer.py``, of the reference alone,
    `QUANTIZER`, a subclass of `edgeward.runtimes.quantizer.EngineQuantizer`: which operators are quantized, for all engines.
``export.py``
    ``write(program, cfg, properties, path)``: from ``model.pt2`` to the file. Others than the reference raise `Unportable` where
    a network is none for the engine, and return its operators, type -> number; `edgeward.runtimes.program` and
    `edgeward.runtimes.layers` help.
``session.py``
    ``open_session(path, threads, fused) -> Session``: the engine on this machine.
``graph.py``
    ``read_graph(path, batch) -> GraphFacts``: what a file holds.
``given.py``, if it takes finished files of others,
    ``open_given(path, takes) -> Given``.
``probes.py``
    ``write(folder) -> list[Probe]``: small files that show how fast a device multiplies.

Only the part that a stage needs is imported (`edgeward.core.plugins.load`).
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pydantic import Field

from edgeward.core.config import Closed
from edgeward.core.errors import UserError
from edgeward.core.plugins import load
from edgeward.runtimes.tolerance import FileParityConfig

if TYPE_CHECKING:
    import numpy as np

    from edgeward.models.config import Takes
    from edgeward.runtimes.parity import Forward

REFERENCE = "onnxruntime"
"""The runtime that `assess` judges with, whose logits those of devices are compared with, and whose file ships."""


class Unportable(UserError):
    """A network that a runtime cannot take, in the words of its converter: a finding, and no failure of a sweep."""


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
    parameters : elements of the weights and biases (scales, zero points and shapes not counted); `integers` of them are quantised.
    macs : multiply-accumulates per inference, per image.
    precision : "int8" if the graph quantises, otherwise the type of the weights, e.g. "fp32".
    operators : operator type -> number of nodes.
    uncounted : operator types that multiply but are not in `macs`.
    node_macs : name of a node -> its MACs per inference, where attributes are needed to count them.
    """

    input_shape: list[int]
    parameters: int
    integers: int
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


class Given(ABC):
    """A finished file, whatever made it.

    Attributes
    ----------
    path : of the file. takes : how images become its input, and what its output means.
    """

    path: Path
    takes: Takes

    @property
    @abstractmethod
    def producer(self) -> tuple[str, str]:
        """Who wrote it: name and version, empty where it does not say."""

    @property
    @abstractmethod
    def batch(self) -> int | None:
        """Images that it takes at once; None: any number."""

    @property
    @abstractmethod
    def channels(self) -> int | None:
        """Channels that it takes; None: any number."""

    @property
    @abstractmethod
    def size(self) -> tuple[int | None, int | None]:
        """Height and width that it takes, pixels; None: any."""

    @abstractmethod
    def affine(self, channels: int) -> tuple[np.ndarray, np.ndarray]:
        """Return scale and bias that take grey levels 0-255 to its input, float64 (c,) each."""

    @abstractmethod
    def places(self, classes: Sequence[str]) -> list[int] | None:
        """Return where the classes stand among its outputs; None: in order.

        Raises
        ------
        UserError
            If there are other classes in the file.
        """

    @abstractmethod
    def refitted(self, **takes: object) -> Given:
        """Return the same file, taken otherwise."""

    @abstractmethod
    def forward(self, classes: Sequence[str], threads: int) -> Forward:
        """Return the untouched file as a function of images, float32 (b, c, h, w), 0-255, to logits in the order of `classes`."""

    @abstractmethod
    def write(
        self,
        path: Path,
        properties: Mapping[str, Any],
        images: np.ndarray,
        classes: Sequence[str],
        threads: int,
    ) -> None:
        """Write the file as the stages below take it; its batch becomes dynamic, if it computes the same then.

        Parameters
        ----------
        properties : go into the metadata, each as JSON.
        images : two or more, float32 (b, c, h, w), 0-255, to try that on.

        Raises
        ------
        UserError
            If images or classes do not fit the file.
        """

    @abstractmethod
    def quantized(
        self,
        to: Path,
        images: Iterable[np.ndarray],
        *,
        method: str,
        per_channel: bool,
        reduce_range: bool,
        operators: list[str] | None,
    ) -> Given:
        """Write a file with INT8 weights and activations, and return it.

        Parameters
        ----------
        images : float32 (b, c, h, w), 0-255, a batch at a time. method : how ranges of activations are chosen.
        reduce_range : weights of 7 bits. operators : types that are quantized; None: all that can be.

        Raises
        ------
        UserError
            If the quantizer cannot read the file.
        """


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
