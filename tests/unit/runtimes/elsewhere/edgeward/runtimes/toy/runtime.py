"""onnx's reference evaluator: slow, and right by definition."""

from __future__ import annotations

from edgeward.runtimes.base import Runtime

RUNTIME = Runtime(
    name="toy", title="the reference evaluator", suffix=".onnx", file_of="onnxruntime"
)
