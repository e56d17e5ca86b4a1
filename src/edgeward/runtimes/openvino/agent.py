"""OpenVINO on the ONNX file that ships."""

from __future__ import annotations

from statistics import median
from typing import Any, Callable  # `Feed` is made at run time, which Python 3.8 does with these

from edgeward.runtimes.agent import AgentError

# Names of types as `edgeward.runtimes.agent` has them.
TYPES = {
    "f32": "float",
    "f16": "float16",
    "bf16": "bfloat16",
    "u8": "uint8",
    "i8": "int8",
    "i32": "int32",
    "i64": "int64",
    "boolean": "bool",
}
Feed = Callable[["Session"], "dict[str, Any]"]


class Session:
    """A compiled model of OpenVINO with one infer request."""

    def __init__(self, openvino: Any, compiled: Any, inputs: list[Any]) -> None:
        self._openvino = openvino
        self._compiled = compiled
        self._request = compiled.create_infer_request()
        self.providers = list(compiled.get_property("EXECUTION_DEVICES"))
        self.inputs = inputs

    def bind(self, feed: dict[str, Any]) -> Callable[[], Any]:
        """Return a function that runs one inference on `feed`."""
        self._feed = feed  # the tensors only point at the arrays
        for name, array in feed.items():
            self._request.set_tensor(name, self._openvino.Tensor(array, shared_memory=True))
        return self._request.infer

    def outputs(self) -> list[Any]:
        """Return the outputs of the latest inference."""
        count = len(self._compiled.outputs)
        return [self._request.get_output_tensor(i).data.copy() for i in range(count)]

    def counters(self) -> list[Any]:
        """Return the times of the nodes in the latest inference."""
        return self._request.get_profiling_info()

    def nodes(self) -> list[Any]:
        """Return the nodes that the compiled model executes."""
        return self._compiled.get_runtime_model().get_ordered_ops()


class Engine:
    """OpenVINO on the same ONNX file; the batch is fixed when the model is compiled.

    Settings: ``device`` (e.g. CPU, GPU), ``precision`` ("f32", "bf16", "f16") of the float parts.
    """

    name = "openvino"
    on_gpu = False

    def __init__(self, settings: dict[str, Any]) -> None:
        try:
            import openvino
        except ImportError as error:
            raise AgentError("engine", f"openvino cannot be imported: {error}") from error
        self._openvino = openvino
        self._core = openvino.Core()
        self._settings = settings
        self.version = openvino.__version__
        there = self.available()
        if settings["device"].split(".")[0] not in {name.split(".")[0] for name in there}:
            raise AgentError(
                "provider", f"{settings['device']} (this build has {', '.join(there)})"
            )

    def available(self) -> list[str]:
        """Return the devices that this build finds."""
        return list(self._core.available_devices)

    def open(
        self,
        model: str | bytes,
        threads: int,
        batch: int,
        shared: bool = False,  # noqa: ARG002 - its threads do not spin
        counters: bool = False,
    ) -> Session:
        """Open a model for this batch; `shared` changes nothing, `counters` times the kernels."""
        device = self._settings["device"]
        config: dict[str, Any] = {
            "PERFORMANCE_HINT": "LATENCY",
            "INFERENCE_PRECISION_HINT": self._settings["precision"],
            "PERF_COUNT": counters,
        }
        if device == "CPU":
            # Pinning would fight with the affinity that the request sets.
            config.update(INFERENCE_NUM_THREADS=threads, NUM_STREAMS=1, ENABLE_CPU_PINNING=False)
        try:
            graph = self._core.read_model(model)
            inputs = []
            for port in graph.inputs:
                shape = port.get_partial_shape()
                sides = [side.get_length() if side.is_static else None for side in shape]
                kind = port.get_element_type().get_type_name()
                kind = {"f32": "float"}.get(kind, kind)
                inputs.append((port.get_any_name(), f"tensor({kind})", sides))
            if len(inputs) == 1 and inputs[0][2][:1] == [None]:
                graph.reshape([batch, *inputs[0][2][1:]])
            compiled = self._core.compile_model(graph, device, config)
        except Exception as error:
            raise AgentError("model", str(error)) from error
        return Session(self._openvino, compiled, inputs)

    def kernels(
        self, model: str, threads: int, batch: int, feed: Feed, runs: int
    ) -> tuple[int, list[dict[str, Any]]]:
        """Return the number of timed inferences and the kernels; see `edgeward.runtimes.agent`.

        ``operator`` is OpenVINO's layer type, ``provider`` the kernel that was chosen, e.g.
        ``brgconv_avx512_I8``; what runs inside of what, and packed weights, it does not tell.
        """
        session = self.open(model, threads, batch, counters=True)
        run = session.bind(feed(session))
        times: dict[str, list[float]] = {}
        try:
            run()
            for _ in range(runs):
                run()
                for entry in session.counters():
                    times.setdefault(entry.node_name, []).append(
                        entry.real_time.total_seconds() * 1e6
                    )
        except Exception as error:
            raise AgentError("run", str(error)) from error
        found = []
        for node in session.nodes():
            facts = {key: value.astype(str) for key, value in node.get_rt_info().items()}
            kind = facts["layerType"]
            if kind in ("Input", "Output", "Const") or node.friendly_name not in times:
                continue
            # An absent optional input is an empty tensor of no type.
            inputs = [_tensor(port.get_source_output()) for port in node.inputs()]
            found.append(
                {
                    "name": node.friendly_name,
                    "operator": kind,
                    "provider": facts.get("primitiveType"),
                    "inputs": [tensor for tensor in inputs if tensor[0] != "dynamic"],
                    "outputs": [_tensor(port) for port in node.outputs()],
                    "weight_bytes": None,
                    "calls": 1,
                    "inside": None,
                    "us": median(times[node.friendly_name]),
                }
            )
        return runs, found


def _tensor(port: Any) -> list[Any]:
    """Return [type, shape] of what flows through an output of a node, in the agent's names."""
    kinds = port.get_node().get_rt_info()["outputPrecisions"].astype(str).split(",")
    kind = kinds[port.get_index()] if port.get_index() < len(kinds) else kinds[0]
    shape = port.get_partial_shape()
    sides = [side.get_length() for side in shape] if shape.is_static else []
    return [TYPES.get(kind, kind), sides]
