"""A finished ONNX file, whatever made it: run as it is, and written so that it takes images as they are stored and gives logits."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

from edgeward.core.errors import UserError, one_line
from edgeward.models.config import Takes
from edgeward.runtimes.base import Given
from edgeward.runtimes.onnxruntime.file import read_model
from edgeward.runtimes.onnxruntime.graph import BATCH, INPUT, OUTPUT, stamp
from edgeward.runtimes.onnxruntime.session import open_session
from edgeward.runtimes.parity import Forward

PREFIX = "edgeward_"  # of what is added to a graph
SMALLEST = 1e-12  # of a probability, before its logarithm is taken
DTYPES: dict[int, type[np.generic]] = {
    TensorProto.FLOAT: np.float32, TensorProto.FLOAT16: np.float16, TensorProto.UINT8: np.uint8,
}  # fmt: skip


@dataclass(frozen=True)
class OnnxFile(Given):
    """An ONNX file with one image in and one result out: `image` and `result` among what the graph takes and gives."""

    path: Path
    model: onnx.ModelProto
    takes: Takes
    image: onnx.ValueInfoProto
    result: onnx.ValueInfoProto

    @property
    def _dims(self) -> list[int | None]:
        """Sizes of the input, as (b, c, h, w)."""
        b, *rest = _dims(self.image)
        c, h, w = rest if self.takes.layout == "nchw" else (rest[2], *rest[:2])
        return [b, c, h, w]

    @property
    def batch(self) -> int | None:
        return self._dims[0]

    @property
    def channels(self) -> int | None:
        return self._dims[1]

    @property
    def size(self) -> tuple[int | None, int | None]:
        return self._dims[2], self._dims[3]

    @property
    def producer(self) -> tuple[str, str]:
        return self.model.producer_name, self.model.producer_version

    @property
    def outputs(self) -> int | None:
        return _dims(self.result)[1]

    @property
    def dtype(self) -> type[np.generic]:
        return DTYPES[self.image.type.tensor_type.elem_type]

    def affine(self, channels: int) -> tuple[np.ndarray, np.ndarray]:
        low, high = self.takes.input_range
        mean, std = self.takes.mean or [0.0] * channels, self.takes.std or [1.0] * channels
        if not len(mean) == len(std) == channels:
            raise UserError(
                f"{self.path} is given {channels} channels, but mean and std have {len(mean)} and {len(std)} entries; change takes.mean and "
                "takes.std (config/model/)."
            )
        spread = np.array(std, float)
        return (high - low) / 255 / spread, (low - np.array(mean, float)) / spread

    def enter(self, images: np.ndarray) -> np.ndarray:
        """Return what the file takes for images, float32 (b, c, h, w), 0-255."""
        if self.takes.order == "bgr":
            images = images[:, ::-1]
        scale, bias = self.affine(images.shape[1])
        found = images * scale.reshape(1, -1, 1, 1) + bias.reshape(1, -1, 1, 1)
        if self.takes.layout == "nhwc":
            found = found.transpose(0, 2, 3, 1)
        if self.dtype is np.uint8:
            found = np.clip(np.round(found), 0, 255)
        return np.ascontiguousarray(found.astype(self.dtype))

    def leave(self, result: np.ndarray, classes: Sequence[str]) -> np.ndarray:
        """Return logits in the order of `classes`, float32 (b, n, ..), from what the file gives."""
        logits = result.astype(np.float32)
        if self.takes.gives == "probabilities":
            logits = np.log(np.maximum(logits, SMALLEST))
        places = self.places(classes)
        return logits if places is None else logits[:, places]

    def places(self, classes: Sequence[str]) -> list[int] | None:
        theirs = self.takes.classes or list(classes)
        if self.outputs not in (None, len(theirs)) or sorted(theirs) != sorted(classes):
            known = self.takes.classes or f"{self.outputs} outputs"
            raise UserError(
                f"{self.path} decides between {known}, the data between {list(classes)}; name the outputs in their order, as the data call "
                "them (takes.classes, config/model/)."
            )
        return None if theirs == list(classes) else [theirs.index(c) for c in classes]

    def forward(self, classes: Sequence[str], threads: int) -> Forward:
        session, name = open_session(self.path, threads, fused=True), self.result.name
        return lambda images: self.leave(session.run(self.enter(images), name), classes)

    def quantized(
        self,
        to: Path,
        images: Iterable[np.ndarray],
        *,
        method: str,
        per_channel: bool,
        reduce_range: bool,
        operators: list[str] | None,
    ) -> OnnxFile:
        from edgeward.runtimes.onnxruntime.static import quantize  # which only few jobs need

        quantize(
            self.path, self._fed(images), to, method=method, per_channel=per_channel, reduce_range=reduce_range, operators=operators
        )  # fmt: skip
        return replace(open_given(to, self.takes), takes=self.takes)

    def _fed(self, images: Iterable[np.ndarray]) -> Iterator[dict[str, np.ndarray]]:
        """Yield what the engine is given for images, at the batch of the file."""
        for batch in images:
            step = self.batch or len(batch)
            for start in range(0, len(batch), step):
                part = batch[start : start + step]
                yield {self.image.name: self.enter(np.resize(part, (step, *part.shape[1:])))}

    def refitted(self, **takes: object) -> OnnxFile:
        return replace(self, takes=self.takes.model_copy(update=takes))

    def write(
        self,
        path: Path,
        properties: Mapping[str, Any],
        images: np.ndarray,
        classes: Sequence[str],
        threads: int,
    ) -> None:
        channels, *size = images.shape[1:]
        for what, theirs, ours in (
            ("channels", self.channels, channels),
            ("height and width", self.size, tuple(size)),
        ):
            if theirs not in (None, ours) and theirs != (None, None):
                key = "source.channels" if what == "channels" else "image_size"
                raise UserError(
                    f"{self.path} takes images of {theirs} {what}, the data have {ours}; change {key} (config/data/), or "
                    "takes.layout (config/model/)."
                )
        for free in (True, False) if self.batch else (True,):
            model = self.wrapped(channels, (size[0], size[1]), classes, free=free)
            stamp(model, properties)
            path.write_bytes(model.SerializeToString(deterministic=True))
            if not free or self.batch is None or _same(path, images, threads):
                break
        onnx.checker.check_model(str(path))

    def wrapped(
        self, channels: int, size: tuple[int, int], classes: Sequence[str], *, free: bool
    ) -> onnx.ModelProto:
        """Return the file with what `enter` and `leave` do inside the graph: input `image`, output `logits`.

        Parameters
        ----------
        channels, size : of the images, (h, w).
        free : whether the batch becomes dynamic, or stays what the file says.
        """
        model = onnx.ModelProto()
        model.CopyFrom(self.model)
        graph = model.graph
        prefix = _unused(graph)
        renamed = {name: f"{prefix}given_{name}" for name in (INPUT, OUTPUT)}
        _rename(graph, renamed)
        of_image, of_result = (renamed.get(v.name, v.name) for v in (self.image, self.result))
        image = next(v for v in graph.input if v.name == of_image)
        result = next(v for v in graph.output if v.name == of_result)
        batch: int | str = BATCH if free or self.batch is None else self.batch
        before = _Chain(INPUT, prefix)
        if self.takes.order == "bgr":
            before.add("Gather", np.arange(channels - 1, -1, -1, dtype=np.int64), axis=1)
        scale, bias = (v.astype(np.float32).reshape(1, -1, 1, 1) for v in self.affine(channels))
        if (scale != 1).any():
            before.add("Mul", scale)
        if (bias != 0).any():
            before.add("Add", bias)
        if self.takes.layout == "nhwc":
            before.add("Transpose", perm=[0, 2, 3, 1])
        if self.dtype is np.uint8:
            before.add("Round")
            before.add("Max", np.float32(0))
            before.add("Min", np.float32(255))
        if self.dtype is not np.float32:
            before.add("Cast", to=self.image.type.tensor_type.elem_type)
        before.end(image.name)
        after = _Chain(result.name, prefix)
        if result.type.tensor_type.elem_type != TensorProto.FLOAT:
            after.add("Cast", to=TensorProto.FLOAT)
        if self.takes.gives == "probabilities":
            after.add("Max", np.float32(SMALLEST))
            after.add("Log")
        if (places := self.places(classes)) is not None:
            after.add("Gather", np.array(places, np.int64), axis=1)
        after.end(OUTPUT)
        nodes = [*before.nodes, *graph.node, *after.nodes]
        rest = [v for v in graph.input if v.name != image.name]
        outer = [batch, len(classes), *_dims(self.result)[2:]]
        del graph.node[:], graph.input[:], graph.output[:], graph.value_info[:]
        graph.node.extend(nodes)
        graph.initializer.extend([*before.constants, *after.constants])
        taken = [batch, channels, *size]
        graph.input.extend([helper.make_tensor_value_info(INPUT, TensorProto.FLOAT, taken), *rest])
        graph.output.append(helper.make_tensor_value_info(OUTPUT, TensorProto.FLOAT, outer))
        model.ir_version = max(model.ir_version, 4)  # of which on constants need not be inputs
        return model


def _same(path: Path, images: np.ndarray, threads: int) -> bool:
    """Tell whether a file gives for several images at once what it gives for each alone."""
    session = open_session(path, threads, fused=True)
    each = np.concatenate([session.run(images[i : i + 1]) for i in range(len(images))])
    try:
        together = session.run(images)
    except Exception:  # of the engine: some operator has the batch built in
        return False
    return together.shape == each.shape and np.allclose(together, each, rtol=1e-3, atol=1e-4)


class _Chain:
    """Operators one after the other, from a value on."""

    def __init__(self, start: str, prefix: str) -> None:
        self.last, self.nodes, self.constants = start, [], []  # type: ignore[var-annotated]
        self._name = f"{prefix}{start}"

    def add(self, kind: str, constant: np.ndarray | np.generic | None = None, **attributes: object) -> None:  # fmt: skip
        name, inputs = f"{self._name}_{len(self.nodes)}", [self.last]
        if constant is not None:
            self.constants.append(numpy_helper.from_array(np.asarray(constant), f"{name}_constant"))
            inputs.append(f"{name}_constant")
        self.nodes.append(helper.make_node(kind, inputs, [name], name=name, **attributes))
        self.last = name

    def end(self, value: str) -> None:
        """Let the last operator write `value`."""
        if not self.nodes:
            self.add("Identity")
        self.nodes[-1].output[0] = value


def _unused(graph: onnx.GraphProto) -> str:
    """Return a prefix that no name in the graph has."""
    names = {n.name for n in [*graph.node, *graph.input, *graph.output, *graph.initializer]}
    names |= {value for node in graph.node for value in (*node.input, *node.output)}
    prefix = PREFIX
    while any(name.startswith(prefix) for name in names):
        prefix += "_"
    return prefix


def _rename(graph: onnx.GraphProto, names: dict[str, str]) -> None:
    """Call values otherwise, in the graph and the graphs inside of it."""
    for node in graph.node:
        for values in (node.input, node.output):
            values[:] = [names.get(v, v) for v in values]
        for attribute in node.attribute:
            for inner in [attribute.g] * attribute.HasField("g") + list(attribute.graphs):
                _rename(inner, names)
    for value in [*graph.input, *graph.output, *graph.initializer, *graph.value_info]:
        value.name = names.get(value.name, value.name)


def _dims(value: onnx.ValueInfoProto) -> list[int | None]:
    return [
        dim.dim_value if dim.HasField("dim_value") and dim.dim_value > 0 else None
        for dim in value.type.tensor_type.shape.dim
    ]


def open_given(path: Path, takes: Takes | None) -> OnnxFile:
    """Open a finished file.

    Parameters
    ----------
    takes : what is said of it; a file of this project says it itself, and is believed.

    Raises
    ------
    UserError
        If it is no ONNX file, does not take one image or give one result, or nothing says what it takes.
    """
    model = read_model(path)
    takes = _itself(model, path) or takes
    if takes is None:
        raise UserError(
            f"{path} does not say what it takes. Say it in the model's file in config/model/ (key 'takes'): input_range, mean, std, order, "
            "layout, gives, classes."
        )
    constants = {tensor.name for tensor in model.graph.initializer}
    inputs = [v for v in model.graph.input if v.name not in constants]
    results = [v for v in model.graph.output if takes.output in (None, v.name)]
    if len(inputs) != 1 or len(_dims(inputs[0])) != 4:
        raise UserError(
            f"{path}: one input of four dimensions is needed, an image; found {_told(inputs)}."
        )
    if len(results) != 1 or len(_dims(results[0])) not in (2, 4):
        raise UserError(
            f"{path}: one output is needed, (batch, classes) or (batch, labels, h, w); found {_told(model.graph.output)} "
            "(takes.output in config/model/ names the right one)."
        )
    kind = inputs[0].type.tensor_type.elem_type
    if kind not in DTYPES:
        raise UserError(
            f"{path}: its input is {TensorProto.DataType.Name(kind).lower()}; float, float16 or uint8 is needed."
        )
    return OnnxFile(path, model, takes, inputs[0], results[0])


def _told(values: Sequence[onnx.ValueInfoProto]) -> str:
    """Return names and shapes of values, in words."""
    return ", ".join(f"'{v.name}' {[d or '?' for d in _dims(v)]}" for v in values) or "none"


def _itself(model: onnx.ModelProto, path: Path) -> Takes | None:
    """Return what a file of this project says of itself; of another one None."""
    said = {entry.key: entry.value for entry in model.metadata_props}
    if "edgeward_format" not in said:
        return None
    try:
        return Takes(
            input_range=json.loads(said["input_range"]),
            classes=json.loads(said["classes"]),
            logit_shift=json.loads(said.get("logit_shift", "null")),
        )
    except (KeyError, ValueError, RecursionError) as error:
        raise UserError(
            f"{path} has metadata of this project that are none ({type(error).__name__}: {one_line(error)[:200]})."
        ) from error
