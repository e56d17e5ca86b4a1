"""The operators of onnxruntime-web are those of onnxruntime."""

from __future__ import annotations

from edgeward.runtimes.onnxruntime.kernels import NAMES as NAMES
