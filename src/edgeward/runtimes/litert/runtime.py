"""LiteRT (formerly TensorFlow Lite), with XNNPACK on the processor."""

from __future__ import annotations

from edgeward.runtimes.base import Runtime

RUNTIME = Runtime(name="litert", title="LiteRT", suffix=".tflite", file_of="litert")
