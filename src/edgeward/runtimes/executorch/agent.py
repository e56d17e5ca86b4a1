"""ExecuTorch on a device; its Python part needs torch there."""

from __future__ import annotations

import json
import os
import tempfile
from pathlib import Path
from statistics import median
from typing import Any, Callable  # `Feed` is made at run time, which Python 3.8 does with these

from edgeward.runtimes.agent import AgentError

FLOAT = 6  # of the engine's types of scalars
INTEGER = ("QS8", "QC8", "QU8")  # in the names of XNNPACK's kernels
# What XNNPACK calls an operator -> what the program calls it.
SAME = {
    "Convolution": ("convolution", "linear", "addmm", "mm"),
    "Fully Connected": ("convolution", "linear", "addmm", "mm"),
    "Deconvolution": ("convolution",),
    "Batch Matrix Multiply": ("bmm",),
    "Add": ("add",),
    "Multiply": ("mul",),
    "Subtract": ("sub",),
    "Divide": ("div",),
    "GELU": ("gelu",),
    "HardSwish": ("hardswish",),
    "Sigmoid": ("sigmoid",),
    "TanH": ("tanh",),
    "Exp": ("exp",),
    "Softmax": ("_softmax",),
    "Mean": ("mean",),
    "Max Pooling": ("max_pool2d",),
    "Transpose": ("permute_copy",),
}
Feed = Callable[["Session"], "dict[str, Any]"]


class Session:
    """A program of one method, ``forward``, of one image."""

    providers = ("XnnpackBackend",)

    def __init__(self, torch: Any, module: Any, source: str | bytes) -> None:
        self._torch, self.module = torch, module
        self._source = source  # bytes stay where the engine reads them
        meta = module.method_meta("forward").input_tensor_meta(0)
        kind = "float" if meta.dtype() == FLOAT else str(meta.dtype())
        self.inputs = [("image", f"tensor({kind})", list(meta.sizes()))]

    def bind(self, feed: dict[str, Any]) -> Callable[[], Any]:
        """Return a function that runs one inference on `feed`."""
        given = [self._torch.from_numpy(array) for array in feed.values()]

        def run() -> None:
            self._found = self.module.run_method("forward", given, clone_outputs=False)

        return run

    def outputs(self) -> list[Any]:
        """Return the outputs of the latest inference."""
        return [found.numpy().copy() for found in self._found]


class Engine:
    """ExecuTorch with the backends of its wheel; it has no settings."""

    name = "executorch"
    on_gpu = False

    def __init__(self, settings: dict[str, Any]) -> None:  # noqa: ARG002
        os.environ["OMP_NUM_THREADS"] = "1"  # torch's own threads would spin beside the engine's
        try:
            from importlib.metadata import version

            import torch
            from executorch.extension.pybindings import (
                _C,  # without the exporter, which takes seconds
            )
        except ImportError as error:
            raise AgentError("engine", f"executorch cannot be imported: {error}") from error
        self._torch, self._lib = torch, _C
        self.version = version("executorch")

    def available(self) -> list[str]:
        """Return the backends that this build has."""
        return list(self._lib._get_registered_backend_names())

    def open(
        self,
        model: str | bytes,
        threads: int,
        batch: int,  # noqa: ARG002 - fixed in the file
        shared: bool = False,  # noqa: ARG002 - all share one pool
        recorded: bool = False,
    ) -> Session:
        """Open a file; `recorded`: so that the engine keeps the times of its operators."""
        load = self._lib._load_for_executorch
        if isinstance(model, bytes):
            load = self._lib._load_for_executorch_from_buffer
        try:
            self._lib._unsafe_reset_threadpool(threads)
            return Session(self._torch, load(model, enable_etdump=recorded), model)
        except Exception as error:
            raise AgentError("model", str(error)) from error

    def kernels(
        self, model: str, threads: int, batch: int, feed: Feed, runs: int
    ) -> tuple[int, list[dict[str, Any]]]:
        """Return the number of timed inferences and the kernels; see `edgeward.runtimes.agent`.

        ``provider`` is XNNPACK, or "portable" for what runs outside of it. Tensors are those of the program, as far as operators
        and kernels correspond one to one; XNNPACK's own transpositions and copies have none.
        """
        session = self.open(model, threads, batch, recorded=True)
        run = session.bind(feed(session))
        try:
            for _ in range(runs + 1):
                run()
            with tempfile.TemporaryDirectory(prefix="edgeward-agent-") as folder:
                record = str(Path(folder) / "record.etdp")
                session.module.write_etdump_result_to_file(record)
                events = _events(record)
            (said,) = session.module.run_method("kernels", [])
        except Exception as error:
            raise AgentError("run", str(error)) from error
        program: dict[Any, list[dict[str, Any]]] = {}
        for entry in json.loads(said):
            program.setdefault(entry["delegate"], []).append(entry)
        found = []
        for delegate in dict.fromkeys(place for place, _, _ in events):
            mine = [(name, times) for place, name, times in events if place == delegate]
            found += _paired(delegate, mine, program.get(delegate, []))
        return runs, found


def _events(record: str) -> list[tuple[int | None, str, list[float]]]:
    """Return what ran, in order: number of its delegate or None, name, and its time in each inference, ms."""
    from executorch.devtools import Inspector

    blocks = [b for b in Inspector(etdump_path=record).event_blocks if b.name == "Execute"]
    found: list[tuple[int | None, str, list[float]]] = []
    delegate = 0
    for event in (event for block in blocks for event in block.events):
        if event.is_delegated_op:
            found.append((delegate, event.name, event.perf_data.raw))
        elif event.name == "DELEGATE_CALL":
            delegate += 1
        elif event.name.startswith("native_call_"):
            name = event.name[len("native_call_") :].split(".")[0]
            found.append((None, name, event.perf_data.raw))
    return found


def _paired(delegate: int | None, events: list, program: list) -> list[dict[str, Any]]:
    """Return the kernels of one delegate with the tensors of the operators that they are."""
    waiting: dict[str, list] = {}
    for operators in {*SAME.values()} if delegate is not None else {(e[0],) for e in events}:
        nodes = [entry for entry in program if entry["operator"] in operators]
        kernels = [name for name, _ in events if _is(name, delegate) == operators]
        if len(nodes) == len(kernels):
            waiting["/".join(operators)] = nodes
    found = []
    for position, (name, times) in enumerate(events):
        base = name.split(" (")[0]
        nodes = waiting.get("/".join(_is(name, delegate)), [])
        node = nodes.pop(0) if nodes else {"inputs": [], "outputs": []}
        integer = any(mark in name for mark in INTEGER)
        inputs = [
            ["int8" if integer and kind == "float" else kind, shape]
            for kind, shape in node["inputs"]
        ]
        found.append(
            {
                "name": f"{'' if delegate is None else delegate}/{position}/{name}",
                "operator": base,
                "provider": "portable" if delegate is None else "XNNPACK",
                "inputs": inputs,
                "outputs": node["outputs"],
                "weight_bytes": None,
                "calls": 1,
                "inside": None,
                "us": 1e3 * median(times[1:]),
            }
        )
    return found


def _is(name: str, delegate: int | None) -> tuple:
    """Return what the program may call the operator that a kernel is."""
    return (name,) if delegate is None else SAME.get(name.split(" (")[0], ())
