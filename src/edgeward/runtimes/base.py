"""What runs a model on a device, as an object: a runtime is a folder of this package, and nothing else asks which one it is.

A folder ``runtimes/<name>/`` holds

``runtime.py``
    `RUNTIME`, a `Runtime`: its facts. Standard library only.
``config.py``
    `Engine`, the keys of ``engine`` in a device's YAML; the reference's also `Export`, those of the group ``export``, and others that
    write files `Port`.
``agent.py``
    `Engine`: the engine on a device; see `edgeward.runtimes.agent`. One that runs in a page has ``agent.js`` instead, and
    ``page.py``: `AGENT`, its path, and ``package_files(settings) -> {path at which it looks for it: file}``.
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
``pieces.py``
    ``write(piece, form, path)``: an operator of a network as a small file, to time it in float and in integers.

Only the part that a stage needs is imported (`edgeward.core.plugins.load`).
"""

from __future__ import annotations

import json
from abc import ABC, abstractmethod
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import astuple, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, NamedTuple

from pydantic import Field

from edgeward.core.config import Closed
from edgeward.core.errors import UserError
from edgeward.core.plugins import load
from edgeward.runtimes.tolerance import FileParityConfig

if TYPE_CHECKING:
    import numpy as np
    from torch.export import ExportedProgram

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
    runs_in : what its agent is on a device: a process of Python, or a page in a browser.
    plain : what it computes in float outside of the layout that it keeps images in between convolutions: activations of a
        `Piece`, and ``broadcast``: sums and products of unlike shapes.
    """

    name: str
    title: str
    suffix: str
    file_of: str
    runs_in: Literal["process", "page"] = "process"
    plain: frozenset[str] = frozenset()


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


Form = Literal["float", "int"]
Shape = tuple[int, ...]


FEWEST = 8  # channels of a tensor that an engine lays out in its own way


class End(NamedTuple):
    """A tensor at an end of an operator: its shape, its number format, and whether both sides of it are outside of the engine's layout."""

    shape: Shape
    form: Form
    plain: bool = False

    @property
    def laid_out(self) -> bool:
        """Whether it is an image or a volume that engines keep in layouts of their own between operators."""
        return len(self.shape) >= 4 and self.shape[1] >= FEWEST and not self.plain


@dataclass(frozen=True)
class Piece:
    """An operator of a network, with what an engine fuses into it: what its time depends on, and no weights.

    Attributes
    ----------
    kind : ``conv, linear, add, mul, cat, max_pool, upsample``; ``nothing`` only hands its input on, ``quantize`` takes a float
        tensor to integers and ``dequantize`` back.
    inputs, output : shapes (1, ...) of its activations.
    settings : of its kind, sorted: shape of the ``weight``, ``bias``, ``stride, padding, dilation, groups, kernel, ceil``, ``axis``.
    behind : the activation fused behind it, its name and its settings; empty: none.
    absorbed : whether the integer form of the operator takes that activation in; else it is computed in float, and quantized.
    floats : whether the integer form gives floats.
    plain : of every end, the output last, whether in float both sides of it are outside of the engine's layout (`Runtime.plain`); empty: none.
    """

    kind: str
    inputs: tuple[Shape, ...]
    output: Shape
    settings: tuple[tuple[str, Any], ...] = ()
    behind: tuple[Any, ...] = ()
    absorbed: bool = True
    floats: bool = False
    plain: tuple[bool, ...] = ()

    def signature(self, form: Form) -> str:
        """Return the name under which its time is kept."""
        return json.dumps([form, *astuple(self)], separators=(",", ":"))

    def ends(self, form: Form) -> list[End]:
        """Return what is at its ends, the output last."""
        into: Form = {"quantize": "float", "dequantize": "int"}.get(self.kind, form)  # type: ignore[assignment]
        out: Form = {"quantize": "int", "dequantize": "float"}.get(  # type: ignore[assignment]
            self.kind, "float" if self.floats else form
        )
        shapes = [*((shape, into) for shape in self.inputs), (self.output, out)]
        plain = self.plain or (False,) * len(shapes)
        return [End(*each, p and each[1] == "float") for each, p in zip(shapes, plain, strict=True)]


@dataclass(frozen=True)
class Timed:
    """A program beside a reference, timed in turns on a device.

    Attributes
    ----------
    reference_ms, latency_ms : medians. ratio : latency over that of the reference: estimate, lower and upper end (None: open).
    refused : why the engine does not take it; then there are no times.
    """

    reference_ms: float | None
    latency_ms: float | None
    ratio: tuple[float, float | None, float | None] | None
    refused: str | None = None

    @property
    def speedup(self) -> tuple[float, float | None, float | None] | None:
        """How many times faster than the reference it is: estimate, lower and upper end (None: open)."""
        if self.ratio is None:
            return None
        ratio, low, high = self.ratio
        return 1 / ratio, high and 1 / high, low and 1 / low


class Bench(ABC):
    """A device on which operators and whole programs can be timed while a network is compressed for it.

    Attributes
    ----------
    name : of the device. runtime : what runs models on it.
    """

    name: str
    runtime: Runtime

    @abstractmethod
    def costs(self, asked: Sequence[tuple[Piece, Form]]) -> list[float]:
        """Return the time of each operator in a network, us, without what surrounds it; inf where the engine refuses it."""

    @abstractmethod
    def in_turns(
        self, reference: ExportedProgram, programs: Sequence[ExportedProgram]
    ) -> list[Timed]:
        """Time programs beside a reference, all as the files that would ship."""


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
