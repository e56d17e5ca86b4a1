"""What a file of ExecuTorch holds: noted beside it when it was written."""

from edgeward.runtimes.graph import read_noted as read_graph

__all__ = ["read_graph"]
