"""The reference evaluator on a device."""

from __future__ import annotations

from time import perf_counter
from typing import Any

from edgeward.runtimes.agent import AgentError


class Session:
    """A model whose nodes are evaluated one after another."""

    providers = ("python",)

    def __init__(self, evaluator: Any) -> None:
        self.evaluator = evaluator
        (image,) = evaluator.proto_.graph.input
        sides = [dim.dim_value or None for dim in image.type.tensor_type.shape.dim]
        self.inputs = [(image.name, "tensor(float)", sides)]

    def bind(self, feed: dict[str, Any]) -> Any:
        def run() -> None:
            self.found = self.evaluator.run(None, feed)

        return run

    def outputs(self) -> list[Any]:
        return self.found


class Engine:
    """Has no settings; knows standard operators alone."""

    name = "toy"
    on_gpu = False

    def __init__(self, settings: dict[str, Any]) -> None:
        import onnx.reference

        self.onnx, self.version = onnx, onnx.__version__

    def available(self) -> list[str]:
        return ["python"]

    def open(self, model: str, threads: int, batch: int, shared: bool = False) -> Session:
        graph = self.onnx.load(model).graph
        foreign = sorted({node.op_type for node in graph.node if node.domain})
        if foreign:
            raise AgentError("model", "no standard operators: " + ", ".join(foreign))
        return Session(self.onnx.reference.ReferenceEvaluator(model))

    def kernels(self, model: str, threads: int, batch: int, feed: Any, runs: int) -> Any:
        session = self.open(model, threads, batch)
        arrays = feed(session)
        start = perf_counter()
        values = {**arrays, **session.evaluator.run(None, arrays, intermediate=True)}
        nodes, weights = (
            session.evaluator.proto_.graph.node,
            session.evaluator.proto_.graph.initializer,
        )
        share = (perf_counter() - start) * 1e6 / len(nodes)  # it does not tell what a node takes
        values.update((w.name, self.onnx.numpy_helper.to_array(w)) for w in weights)

        def tensors(names: Any) -> list:
            return [["float", list(values[name].shape)] for name in names]

        return runs, [
            {"name": node.output[0], "operator": node.op_type, "provider": None, "calls": 1,
             "inputs": tensors(node.input), "outputs": tensors(node.output), "weight_bytes": None,
             "inside": None, "us": share}
            for node in nodes
        ]  # fmt: skip
