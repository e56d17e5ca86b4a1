"""onnxruntime-web: onnxruntime in a page, on the ONNX file that ships."""

from __future__ import annotations

from edgeward.runtimes.base import Runtime

RUNTIME = Runtime(
    name="onnxruntime_web",
    title="onnxruntime-web",
    suffix=".onnx",
    file_of="onnxruntime",
    runs_in="page",
)
