"""LiteRT on a device."""

from __future__ import annotations

from typing import Any, Callable  # `Feed` is made at run time, which Python 3.8 does with these

from edgeward.runtimes.agent import AgentError

DELEGATE = "DELEGATE"
TYPES = {"float32": "float", "float64": "double"}
Feed = Callable[["Session"], "dict[str, Any]"]


class Session:
    """An interpreter of one image."""

    providers = ("XNNPACK",)

    def __init__(self, interpreter: Any) -> None:
        self.interpreter = interpreter
        (image,) = interpreter.get_input_details()
        self._image = image["index"]
        self._logits = interpreter.get_output_details()[0]["index"]
        kind = TYPES.get(image["dtype"].__name__, image["dtype"].__name__)
        self.inputs = [("image", f"tensor({kind})", [int(side) for side in image["shape"]])]

    def bind(self, feed: dict[str, Any]) -> Callable[[], Any]:
        """Return a function that runs one inference on `feed`."""
        (array,) = feed.values()
        self.interpreter.set_tensor(self._image, array)
        return self.interpreter.invoke

    def outputs(self) -> list[Any]:
        """Return the outputs of the latest inference."""
        return [self.interpreter.get_tensor(self._logits)]


class Engine:
    """LiteRT's interpreter; it has no settings."""

    name = "litert"
    on_gpu = False

    def __init__(self, settings: dict[str, Any]) -> None:  # noqa: ARG002
        try:
            from importlib.metadata import version

            from ai_edge_litert import interpreter
        except ImportError as error:
            raise AgentError("engine", f"ai-edge-litert cannot be imported: {error}") from error
        self._lib, self.kinds = interpreter, interpreter.OpResolverType
        self.version = version("ai-edge-litert")

    def available(self) -> list[str]:
        """Return what the interpreter computes with."""
        return ["XNNPACK", "builtin"]

    def open(
        self,
        model: str | bytes,
        threads: int,
        batch: int,  # noqa: ARG002 - fixed in the file
        shared: bool = False,  # noqa: ARG002 - its threads do not spin
        **options: Any,
    ) -> Session:
        """Open a file; `options` are those of the engine's interpreter."""
        source = {"model_content" if isinstance(model, bytes) else "model_path": model}
        try:
            found = self._lib.Interpreter(**source, num_threads=threads, **options)
            found.allocate_tensors()
        except Exception as error:
            raise AgentError("model", str(error)) from error
        return Session(found)

    def operators(self, model: str, fused: bool) -> list[dict[str, Any]]:
        """Return the operators of a file, as the engine tells them; with `fused` those of delegates follow."""
        if fused:
            options = {"experimental_disable_delegate_node_fusion": True}
        else:
            options = {
                "experimental_op_resolver_type": self.kinds.BUILTIN_WITHOUT_DEFAULT_DELEGATES
            }
        interpreter = self.open(model, 1, 1, **options).interpreter
        return list(interpreter._get_ops_details())

    def kernels(
        self,
        model: str,
        threads: int,
        batch: int,
        feed: Feed,
        runs: int,  # noqa: ARG002 - none is timed
    ) -> tuple[int, list[dict[str, Any]]]:
        """Return no timed inference, and the kernels; see `edgeward.runtimes.agent`.

        The engine keeps no times from Python. ``provider`` is XNNPACK for operators that it takes when it is offered them one by one,
        otherwise "builtin".
        """
        session = self.open(model, threads, batch)
        session.bind(feed(session))()
        plain = self.operators(model, fused=False)
        taken = {
            int(place)
            for op in self.operators(model, fused=True)[len(plain) :]
            for place in op["outputs"]
        }
        tensors = {t["index"]: t for t in session.interpreter.get_tensor_details()}

        def described(places: Any) -> list[list[Any]]:
            known = [tensors[int(place)] for place in places if int(place) in tensors]
            kinds = [t["dtype"].__name__ for t in known]
            shapes = [[int(side) for side in t["shape"]] for t in known]
            return [[TYPES.get(kind, kind), shape] for kind, shape in zip(kinds, shapes)]

        return 0, [
            {
                "name": str(op["index"]),
                "operator": op["op_name"],
                "provider": "XNNPACK" if int(op["outputs"][0]) in taken else "builtin",
                "inputs": described(op["inputs"]),
                "outputs": described(op["outputs"]),
                "weight_bytes": None,
                "calls": 1,
                "inside": None,
                "us": 0.0,
            }
            for op in plain
        ]
