"""onnxruntime, with any of its execution providers."""

from __future__ import annotations

from edgeward.runtimes.base import Runtime

RUNTIME = Runtime(
    name="onnxruntime",
    title="onnxruntime",
    suffix=".onnx",
    file_of="onnxruntime",
    plain=frozenset(
        {"hardswish", "gelu", "broadcast"}
    ),  # no kernels for blocks of channels (NCHWc)
)
