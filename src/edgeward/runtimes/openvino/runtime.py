"""OpenVINO, on the ONNX file that ships."""

from __future__ import annotations

from edgeward.runtimes.base import Runtime

RUNTIME = Runtime(name="openvino", title="OpenVINO", suffix=".onnx", file_of="onnxruntime")
