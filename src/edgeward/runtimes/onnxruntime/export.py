"""From a PyTorch program to one self-contained ONNX file."""

from __future__ import annotations

import ast
import io
import logging
import re
import warnings
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, redirect_stderr, redirect_stdout
from pathlib import Path
from typing import Any

import onnx
import onnxscript  # noqa: F401  torch.onnx.export needs it; here so that start-up includes it
import torch

from edgeward.core.errors import UserError
from edgeward.runtimes.onnxruntime import float_layers, lowering
from edgeward.runtimes.onnxruntime.config import Export, RecurrenceConfig
from edgeward.runtimes.onnxruntime.graph import BATCH, INPUT, OUTPUT, stamp
from edgeward.runtimes.program import in_products

log = logging.getLogger(__name__)


@contextmanager
def _quiet() -> Iterator[None]:
    """Send what the exporter prints, warns and logs to this module's log, at level DEBUG."""
    loud = [logging.getLogger(name) for name in ("torch.onnx", "onnxscript", "onnx_ir")]
    levels = [logger.level for logger in loud]
    printed = io.StringIO()
    for logger in loud:
        logger.setLevel(logging.ERROR)
    try:
        with (
            warnings.catch_warnings(record=True) as caught,
            redirect_stdout(printed),
            redirect_stderr(printed),
        ):
            warnings.simplefilter("always")
            yield
        for warning in caught:
            log.debug("torch.onnx: %s", warning.message)
    finally:
        for logger, level in zip(loud, levels, strict=True):
            logger.setLevel(level)
        if printed.getvalue().strip():
            log.debug("torch.onnx: %s", printed.getvalue().strip())


def _clean(model: onnx.ModelProto) -> None:
    """Drop what the exporter notes about this machine and process; keep each node's module name.

    The notes hold source paths and stack traces: they differ between machines and are no part of
    the model.
    """
    graph = model.graph
    for node in graph.node:
        scopes = {p.key: p.value for p in node.metadata_props}.get("pkg.torch.onnx.name_scopes")
        del node.metadata_props[:]
        node.ClearField("doc_string")
        names = ast.literal_eval(scopes) if scopes else []
        if len(names) > 1 and names[-2]:
            node.metadata_props.add(key="module", value=names[-2])
    for entry in [graph, *graph.input, *graph.output, *graph.value_info, *graph.initializer]:
        del entry.metadata_props[:]


def _name_batch(model: onnx.ModelProto) -> None:
    """Call the dynamic dimension of the input `batch` wherever it occurs."""
    symbol = model.graph.input[0].type.tensor_type.shape.dim[0].dim_param
    if not symbol:
        raise UserError(
            "the exported program has a fixed batch: compress must export it with a dynamic one."
        )
    for value in [*model.graph.input, *model.graph.output, *model.graph.value_info]:
        for dim in value.type.tensor_type.shape.dim:
            if dim.dim_param:
                dim.dim_param = re.sub(rf"\b{re.escape(symbol)}\b", BATCH, dim.dim_param)


def write(
    program: torch.export.ExportedProgram,
    cfg: Export,
    properties: Mapping[str, Any],
    path: Path,
) -> None:
    """Write a program as an ONNX file.

    Parameters
    ----------
    properties : go into the file's metadata, each as JSON.

    Raises
    ------
    UserError
        See `to_onnx` and `save`.
    """
    model = to_onnx(program, cfg.opset, cfg.recurrence)
    stamp(model, properties)
    save(model, path)


def to_onnx(
    program: torch.export.ExportedProgram, opset: int, recurrence: RecurrenceConfig
) -> onnx.ModelProto:
    """Return the ONNX form of a program: input `image`, output `logits`, dynamic `batch`.

    Parameters
    ----------
    program : one float32 argument (batch, c, *spatial), one float32 result: (batch, n_classes), or
        for segmentation (batch, n_labels, *spatial).
    opset : version of the standard operator set.
    recurrence : the form of state-space recurrences.

    Raises
    ------
    UserError
        If the program has another signature, or an operator has no ONNX form.
    """
    if recurrence.gated == "matmul":
        program = in_products(program)
    model = translate(program, opset)
    lowering.lower(model, recurrence)
    float_layers.hold(model)
    return model


def _lay_out(program: torch.export.ExportedProgram) -> None:
    """Copy channels-last tensors into the plain layout before they are pooled to one pixel.

    The values stay the same. Without it torch decomposes the pooling into `as_strided`, which turns
    into index arithmetic over the batch (EdgeNeXt, whose blocks end in a permutation).
    """
    graph = program.graph_module.graph
    for node in graph.find_nodes(
        op="call_function", target=torch.ops.aten.adaptive_avg_pool2d.default
    ):
        source = node.args[0]
        if source.meta["val"].is_contiguous():
            continue
        with graph.inserting_before(node):
            plain = graph.call_function(
                torch.ops.aten.clone.default,
                (source,),
                {"memory_format": torch.contiguous_format},
            )
        plain.meta = {**source.meta, "val": source.meta["val"].contiguous()}
        node.replace_input_with(source, plain)


def translate(program: torch.export.ExportedProgram, opset: int) -> onnx.ModelProto:
    """Return a program in ONNX, with recurrences still as placeholders; otherwise as `to_onnx`."""
    _lay_out(program)
    try:
        with _quiet():
            exported = torch.onnx.export(
                program,
                (),
                dynamo=True,
                opset_version=opset,
                input_names=[INPUT],
                output_names=[OUTPUT],
                custom_translation_table=lowering.translations(),
                verbose=False,
            )
    except torch.onnx.errors.OnnxExporterError as error:
        reason = str(error.__cause__ or error).strip().splitlines()[0]
        raise UserError(
            f"the program cannot be written as ONNX operator set {opset}: {reason}. "
            "Choose another model, or another `opset` in config/export/onnx.yaml."
        ) from error
    assert exported is not None
    model: onnx.ModelProto = exported.model_proto
    constants = {tensor.name for tensor in model.graph.initializer}
    inputs = [v.name for v in model.graph.input if v.name not in constants]
    outputs = [v.name for v in model.graph.output]
    if inputs != [INPUT] or outputs != [OUTPUT]:
        raise UserError(
            f"the program takes {len(inputs)} and returns {len(outputs)} tensors; one image in and "
            "one tensor of logits out are expected."
        )
    found = {entry.domain: entry.version for entry in model.opset_import}
    if found.get("") != opset:
        raise UserError(
            f"asked for operator set {opset}, torch.onnx wrote {found.get('')}; "
            "change `opset` in config/export/onnx.yaml."
        )
    _clean(model)
    _name_batch(model)
    return model


def save(model: onnx.ModelProto, path: Path) -> None:
    """Write `model` as a single file and check it fully, shapes and types included."""
    path.write_bytes(model.SerializeToString(deterministic=True))
    try:
        onnx.checker.check_model(str(path), full_check=True)
    except (onnx.checker.ValidationError, onnx.shape_inference.InferenceError) as error:
        raise UserError(f"the exported model is not valid ONNX: {error}") from error
