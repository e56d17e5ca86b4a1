"""ExecuTorch: PyTorch's engine for phones and boards, with XNNPACK on the processor."""

from __future__ import annotations

from edgeward.runtimes.base import Runtime

RUNTIME = Runtime(name="executorch", title="ExecuTorch", suffix=".pte", file_of="executorch")
