"""An ONNX file, wherever it comes from: read within limits, its weights in it or in files beside it."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import onnx
from google.protobuf.message import DecodeError  # type: ignore[import-untyped]
from onnx.external_data_helper import load_external_data_for_model, uses_external_data

from edgeward.core.archives import check_regular
from edgeward.core.errors import UserError

MAX_BYTES = (1 << 31) - 1  # what protobuf reads of one message
MAX_METADATA = 1 << 20  # bytes of all properties together


def tensors(graph: onnx.GraphProto) -> Iterator[onnx.TensorProto]:
    """Yield every tensor of a graph and of the graphs in its nodes."""
    todo = [graph]
    while todo:
        graph = todo.pop()
        yield from graph.initializer
        for sparse in graph.sparse_initializer:
            yield from (sparse.values, sparse.indices)
        for node in graph.node:
            for attribute in node.attribute:
                yield from (attribute.t, *attribute.tensors)
                todo += [attribute.g, *attribute.graphs] if attribute.type in _GRAPHS else []


_GRAPHS = (onnx.AttributeProto.GRAPH, onnx.AttributeProto.GRAPHS)


def read_model(path: Path) -> onnx.ModelProto:
    """Read and check a model; no file that lies outside of its folder is opened.

    Raises
    ------
    UserError
        If there is none, it is not valid, keeps weights outside of its folder, or is larger than protobuf or its metadata may be.
    """
    try:
        check_regular(path)
        if path.stat().st_size > MAX_BYTES:
            raise UserError(f"{path} is larger than {MAX_BYTES} bytes, which no ONNX file is.")
        model = onnx.load(str(path), load_external_data=False)
    except FileNotFoundError as error:
        raise UserError(f"{path} does not exist.") from error
    except (DecodeError, OSError, ValueError) as error:
        raise UserError(f"{path} is not a valid ONNX model: {error}") from error
    functions = [onnx.GraphProto(node=function.node) for function in model.functions]
    parts = {
        _part(tensor, path)
        for graph in (model.graph, *functions)
        for tensor in tensors(graph)
        if uses_external_data(tensor)
    }
    if sum(part.stat().st_size for part in parts) > MAX_BYTES:
        raise UserError(f"{path}: the files of its weights are larger than {MAX_BYTES} bytes.")
    metadata = sum(len(entry.key) + len(entry.value) for entry in model.metadata_props)
    if metadata > MAX_METADATA:
        raise UserError(f"{path} has {metadata} bytes of metadata; {MAX_METADATA} are allowed.")
    try:
        if parts:
            load_external_data_for_model(model, str(path.parent))
        onnx.checker.check_model(model)
    except (onnx.checker.ValidationError, OSError, ValueError, RuntimeError) as error:
        raise UserError(f"{path} is not a valid ONNX model: {error}") from error
    return model


def _part(tensor: onnx.TensorProto, path: Path) -> Path:
    """Return the file that holds a tensor: a regular one below the folder of its model."""
    said = {entry.key: entry.value for entry in tensor.external_data}
    name, folder = said.get("location", ""), os.path.realpath(path.parent)
    where = f"{path}: the weights of '{tensor.name[:100]}' lie in '{name[:100]}'"
    if (
        not name
        or "\0" in name
        or not os.path.realpath(path.parent / name).startswith(f"{folder}{os.sep}")
    ):
        raise UserError(f"{where}, outside of its folder; only files in it are read.")
    part = path.parent / name
    try:
        check_regular(part)
        size = part.stat().st_size
        end = int(said.get("offset") or 0) + int(said.get("length") or 0)
    except (OSError, ValueError, UserError) as error:
        raise UserError(f"{where}, which cannot be read ({error}).") from error
    if not 0 <= end <= size:
        raise UserError(f"{where}, bytes up to {end} of {size}.")
    return part
