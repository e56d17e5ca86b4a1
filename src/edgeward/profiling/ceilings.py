"""The ceilings of a device: copy bandwidth and matrix rates, measured once and used by all models.

The matrix rates are those of small ONNX graphs run by the engine under test with the threads under
test: convolutions and matrix products of sizes that suit it, in fp32 and in INT8. The best of each
kind is the ceiling.
"""

from __future__ import annotations

import logging
import tempfile
from pathlib import Path
from typing import Any

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

from edgeward.core.errors import UserError
from edgeward.core.io import read_json, sha256, write_json
from edgeward.profiling.config import DeviceCeilingsConfig, ProfileConfig
from edgeward.profiling.transport import open_device

log = logging.getLogger(__name__)

SCHEMA = "edgeward-ceilings/1"
OPSET, IR_VERSION = 20, 10  # what stock engines of the last years read
LAYERS = 4  # of one graph, so that what happens at its ends does not count
Weights = tuple[int, ...]
# Name -> shape of the input, shape of each layer's weights, operator. Multiples of the vector and
# tile widths in use; the tensors fit a cache of 1 MB.
GRAPHS: dict[str, tuple[Weights, Weights, str]] = {
    "matmul_384": ((384, 384), (384, 384), "MatMul"),
    "conv_3x3_64": ((1, 64, 28, 28), (64, 64, 3, 3), "Conv"),
    "conv_1x1_256": ((1, 256, 14, 14), (256, 256, 1, 1), "Conv"),
}


def _layer(i: int, operator: str, weights: Weights, integer: bool) -> tuple[list[Any], list[Any]]:
    """Return the nodes and constants of one layer, x{i} -> x{i+1}."""
    rng = np.random.default_rng(i)
    pads = {"pads": [weights[-1] // 2] * 4} if operator == "Conv" else {}
    if not integer:
        values = rng.normal(0, 1e-2, weights).astype(np.float32)
        node = helper.make_node(operator, [f"x{i}", f"w{i}"], [f"x{i + 1}"], **pads)
        return [node], [numpy_helper.from_array(values, f"w{i}")]
    values = rng.integers(-127, 128, weights).astype(np.int8)
    nodes = [
        helper.make_node("DequantizeLinear", [f"x{i}", "scale", "zero_u8"], [f"d{i}"]),
        helper.make_node("DequantizeLinear", [f"w{i}", "scale", "zero_i8"], [f"f{i}"]),
        helper.make_node(operator, [f"d{i}", f"f{i}"], [f"y{i}"], **pads),
        helper.make_node("QuantizeLinear", [f"y{i}", "scale", "zero_u8"], [f"x{i + 1}"]),
    ]
    return nodes, [numpy_helper.from_array(values, f"w{i}")]


def graph(name: str, integer: bool) -> tuple[onnx.ModelProto, int]:
    """Return a graph of `GRAPHS` and its MACs.

    The INT8 form has uint8 activations and int8 weights in QDQ form, which engines fuse into
    integer kernels; its input and output are uint8.
    """
    shape, weights, operator = GRAPHS[name]
    nodes: list[Any] = []
    constants: list[Any] = []
    for i in range(LAYERS):
        more, values = _layer(i, operator, weights, integer)
        nodes += more
        constants += values
    kind = TensorProto.UINT8 if integer else TensorProto.FLOAT
    if integer:
        constants += [
            numpy_helper.from_array(np.array(0.01, np.float32), "scale"),
            numpy_helper.from_array(np.array(128, np.uint8), "zero_u8"),
            numpy_helper.from_array(np.array(0, np.int8), "zero_i8"),
        ]
    model = helper.make_model(
        helper.make_graph(
            nodes,
            name,
            [helper.make_tensor_value_info("x0", kind, shape)],
            [helper.make_tensor_value_info(f"x{LAYERS}", kind, shape)],
            constants,
        ),
        opset_imports=[helper.make_opsetid("", OPSET)],
        ir_version=IR_VERSION,
    )
    per_output = np.prod(weights[1:]) if operator == "Conv" else weights[0]
    return model, int(LAYERS * np.prod(shape) * per_output)


def identity(cfg: DeviceCeilingsConfig) -> dict[str, Any]:
    """Return what ceilings depend on: they serve every profile that has the same."""
    return {
        "device": cfg.name,
        "engine": cfg.engine.model_dump(),
        "threads": cfg.threads[0],
        "affinity": cfg.affinity,
        "explain": cfg.ceilings.model_dump(),
    }


def measure(cfg: DeviceCeilingsConfig) -> dict[str, Any]:
    """Return the ceilings of a device for its first thread setting.

    Returns
    -------
    ``copy`` [{bytes, gb_per_s}] (working set, read + written), ``fp32_gmac_per_s`` and
    ``int8_gmac_per_s`` (10^9 multiply-accumulates per second, the best of ``rates``), ``threads``,
    ``engine``, ``host``, ``identity``.

    Raises
    ------
    UserError
        If the device cannot be reached or the engine cannot run the graphs.
    """
    with tempfile.TemporaryDirectory(prefix="edgeward-ceilings-") as folder, open_device(cfg) as at:
        files, macs, names = [], [], []
        for name in GRAPHS:
            for integer in (False, True):
                model, count = graph(name, integer)
                path = Path(folder) / f"{name}_{'int8' if integer else 'fp32'}.onnx"
                onnx.save(model, path)
                files.append(path)
                macs.append(count)
                names.append((name, "int8" if integer else "fp32"))
        answer = at.ask(
            {
                "task": "ceilings",
                "models": [str(path) for path in files],
                "sha256s": [sha256(path) for path in files],
                "engine": cfg.engine.model_dump(),
                "affinity": cfg.affinity,
                "threads": cfg.first_threads,
                "duration_s": cfg.ceilings.duration_s,
                "copy_bytes": [1000 * size for size in cfg.ceilings.copy_kb],
            }
        )
    rates = [
        {"graph": name, "precision": precision, "gmac_per_s": count / seconds / 1e9}
        for (name, precision), count, seconds in zip(names, macs, answer["seconds"], strict=True)
    ]
    best = {
        precision: max(r["gmac_per_s"] for r in rates if r["precision"] == precision)
        for precision in ("fp32", "int8")
    }
    return {
        "schema": SCHEMA,
        "identity": identity(cfg),
        "threads": answer["threads"],
        "engine": answer["engine"],
        "host": answer["host"],
        "copy": [
            {"bytes": point["bytes"], "gb_per_s": point["bytes_per_s"] / 1e9}
            for point in answer["copy"]
        ],
        "fp32_gmac_per_s": best["fp32"],
        "int8_gmac_per_s": best["int8"],
        "rates": rates,
    }


def run(cfg: DeviceCeilingsConfig, *, out: Path) -> dict[str, float]:
    """Measure a device's ceilings and write them to `out`; see `measure`."""
    record = measure(cfg)
    write_json(out, record)
    log.info(
        "%s, %d thread(s): fp32 %.0f GMAC/s, INT8 %.0f GMAC/s, copies %s GB/s",
        cfg.name,
        record["threads"],
        record["fp32_gmac_per_s"],
        record["int8_gmac_per_s"],
        ", ".join(f"{p['gb_per_s']:.1f} at {p['bytes'] / 1e6:g} MB" for p in record["copy"]),
    )
    return {
        "fp32_gmac_per_s": record["fp32_gmac_per_s"],
        "int8_gmac_per_s": record["int8_gmac_per_s"],
        **{f"copy_gb_per_s_{p['bytes'] // 1000}kb": p["gb_per_s"] for p in record["copy"]},
    }


def read(path: Path, cfg: ProfileConfig) -> dict[str, Any]:
    """Read ceilings that fit a device's configuration.

    Raises
    ------
    UserError
        If they were measured with another engine or other threads.
    """
    record: dict[str, Any] = read_json(path)
    found, wanted = record.get("identity"), identity(cfg.of_ceilings)
    if record.get("schema") != SCHEMA or found != wanted:
        differ = [key for key in wanted if (found or {}).get(key) != wanted[key]]
        raise UserError(
            f"{path} holds the ceilings of another set-up than config/profile/{cfg.name}.yaml "
            f"(with the overrides of this run): {', '.join(differ) or 'schema'} differ. Delete the "
            "file, so that it is measured again, or let all runs of the device share these keys."
        )
    return record
