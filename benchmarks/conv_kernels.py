"""Time of onnxruntime's kernels in float and INT8, on images and on volumes of as many points.

Run ``python benchmarks/conv_kernels.py`` (a minute of one core). Prints, for every layer that a
segmentation network is made of, which kernel runs and its median time from the engine's own profiler;
for INT8 also what the conversions of layout and format around it take. docs/experiments/
segmentation-kernels.md quotes it.
"""

from __future__ import annotations

import argparse
import json
import tempfile
from collections import defaultdict
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import onnx
import onnxruntime
from onnx import TensorProto, helper, numpy_helper

SIDES = {2: (184, 178), 3: (32, 32, 32)}  # 32,752 and 32,768 points
CONVERSIONS = ("QuantizeLinear", "DequantizeLinear", "Transpose", "ReorderInput", "ReorderOutput")
WARM_UP = 3


@dataclass(frozen=True)
class Layer:
    """One operator: `kernel` is a side, or for "axis" the length along the first axis alone."""

    name: str
    operator: str
    i: int
    o: int
    kernel: int = 1
    groups: int = 1
    stride: int = 1
    dilation: int = 1
    mode: str = ""


LAYERS = [
    Layer("dense 3", "Conv", 16, 16, 3),
    Layer("dense 3", "Conv", 32, 32, 3),
    Layer("dense 3", "Conv", 64, 64, 3),
    Layer("dense 3", "Conv", 3, 3, 3),
    Layer("dense 3", "Conv", 4, 4, 3),
    Layer("dense 3", "Conv", 6, 6, 3),
    Layer("dense 3", "Conv", 8, 8, 3),
    Layer("dense 3", "Conv", 3, 16, 3),
    Layer("dense 3", "Conv", 4, 16, 3),
    Layer("pointwise", "Conv", 3, 16),
    Layer("dense 3, stride 2", "Conv", 16, 32, 3, stride=2),
    Layer("first layer, 3", "Conv", 1, 16, 3),
    Layer("pointwise", "Conv", 32, 64),
    Layer("depthwise 3", "Conv", 32, 32, 3, 32),
    Layer("depthwise 5", "Conv", 32, 32, 5, 32),
    Layer("depthwise 5", "Conv", 8, 8, 5, 8),
    Layer("depthwise 7 along one axis", "Conv", 32, 32, 7, 32, mode="axis"),
    Layer("grouped 3, two channels each", "Conv", 32, 16, 3, 16),
    Layer("depthwise 3, two outputs each", "Conv", 32, 64, 3, 32),
    Layer("attention map 7", "Conv", 2, 1, 7),
    Layer("attention map 7, dilation 3", "Conv", 2, 1, 7, dilation=3),
    Layer("transposed 3, stride 2", "ConvTranspose", 32, 16, 3, stride=2),
    Layer("enlarge, nearest", "Resize", 32, 32, mode="nearest"),
    Layer("enlarge, linear", "Resize", 32, 32, mode="linear"),
    Layer("concatenate", "Concat", 32, 32),
    Layer("add", "Add", 32, 32),
]


def build(layer: Layer, dims: int, quantised: bool) -> onnx.ModelProto:
    """Return a model of the one layer; if quantised, with a pair on both of its sides."""
    rng = np.random.default_rng(0)
    nodes: list[onnx.NodeProto] = []
    weights: list[TensorProto] = []

    def constant(name: str, value: np.ndarray) -> str:
        weights.append(numpy_helper.from_array(np.asarray(value), name))
        return name

    def pair(source: str, scale: float) -> str:
        if not quantised:
            return source
        numbers = [
            constant(f"{source}_scale", np.float32(scale)),
            constant(f"{source}_zero", np.uint8(128)),
        ]
        nodes.append(helper.make_node("QuantizeLinear", [source, *numbers], [f"{source}_q"]))
        nodes.append(
            helper.make_node("DequantizeLinear", [f"{source}_q", *numbers], [f"{source}_d"])
        )
        return f"{source}_d"

    x = pair("image", 0.05)
    shape = [layer.kernel if layer.mode != "axis" or a == 0 else 1 for a in range(dims)]
    if "Conv" in layer.operator:
        transposed = layer.operator == "ConvTranspose"
        sizes = (layer.i, layer.o) if transposed else (layer.o, layer.i)
        w = rng.normal(0, 0.3, (sizes[0], sizes[1] // layer.groups, *shape)).astype(np.float32)
        if quantised:
            axis = 1 if transposed else 0
            scale = np.abs(w).max(tuple(k for k in range(w.ndim) if k != axis), keepdims=True) / 127
            constant("w_q", np.round(w / scale).astype(np.int8))
            constant("w_scale", scale.ravel())
            nodes.append(helper.make_node("DequantizeLinear", ["w_q", "w_scale"], ["w"], axis=axis))
        else:
            constant("w", w)
        pads = [layer.dilation * (k // 2) for k in shape]
        more = {"output_padding": [layer.stride - 1] * dims} if transposed else {}
        node = helper.make_node(
            layer.operator, [x, "w"], ["y"], kernel_shape=shape, pads=pads * 2, group=layer.groups,
            strides=[layer.stride] * dims, dilations=[layer.dilation] * dims, **more,
        )  # fmt: skip
    elif layer.operator == "Resize":
        constant("factors", np.array([1, 1, *[2] * dims], np.float32))
        how = {"nearest": "asymmetric", "linear": "half_pixel"}[layer.mode]
        node = helper.make_node(
            "Resize", [x, "", "factors"], ["y"], mode=layer.mode, nearest_mode="floor",
            coordinate_transformation_mode=how,
        )  # fmt: skip
    else:
        more = {"axis": 1} if layer.operator == "Concat" else {}
        node = helper.make_node(layer.operator, [x, x], ["y"], **more)
    nodes.append(node)
    # A selection keeps the scale of its input: only then is it done on integers.
    out = pair("y", 0.05 if layer.operator == "Resize" else 0.2)
    image = helper.make_tensor_value_info("image", TensorProto.FLOAT, [1, layer.i, *SIDES[dims]])
    result = helper.make_tensor_value_info(out, TensorProto.FLOAT, None)
    graph = helper.make_graph(nodes, "layer", [image], [result], weights)
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 20)], ir_version=10)


def kernel_times(model: onnx.ModelProto, runs: int) -> dict[str, float]:
    """Return the time of each kind of kernel in one inference, ms: medians over the runs."""
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = 1
    options.log_severity_level = 3
    options.enable_profiling = True
    shape = [d.dim_value for d in model.graph.input[0].type.tensor_type.shape.dim]
    image = np.random.default_rng(1).normal(0, 2, shape).astype(np.float32)
    with tempfile.TemporaryDirectory() as folder:
        options.profile_file_prefix = f"{folder}/kernels"
        session = onnxruntime.InferenceSession(
            model.SerializeToString(), options, providers=["CPUExecutionProvider"]
        )
        for _ in range(WARM_UP + runs):
            session.run(None, {"image": image})
        events = json.loads(Path(session.end_profiling()).read_text())
    found: dict[str, list[float]] = defaultdict(list)
    for event in events:
        if event.get("cat") == "Node" and event["name"].endswith("_kernel_time"):
            found[event["args"]["op_name"]].append(event["dur"] / 1e3)
    return {
        kind: float(np.median(np.reshape(times, (WARM_UP + runs, -1)).sum(1)[WARM_UP:]))
        for kind, times in found.items()
    }


def main() -> None:
    """Print the table as Markdown."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--runs", type=int, default=15)
    runs = parser.parse_args().runs
    print("| layer | channels | | float ms | INT8 ms | ratio | INT8 kernel | conversions ms |")
    print("|---|---|---|---|---|---|---|---|")
    for layer in LAYERS:
        for dims in SIDES:
            times = [kernel_times(build(layer, dims, q), runs) for q in (False, True)]
            own = [
                {kind: ms for kind, ms in found.items() if kind not in CONVERSIONS}
                for found in times
            ]
            plain, integer = (sum(found.values()) for found in own)
            around = sum(times[1].values()) - integer
            print(
                f"| {layer.name} | {layer.i}>{layer.o} | {dims}-D | {plain:.2f} | {integer:.2f} | "
                f"{plain / integer:.2f} | {', '.join(own[1])} | {around:.2f} |",
                flush=True,
            )


if __name__ == "__main__":
    main()
