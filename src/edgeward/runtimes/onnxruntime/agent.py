"""onnxruntime, with any of its execution providers."""

from __future__ import annotations

import json
import tempfile
from functools import partial
from pathlib import Path
from statistics import median
from typing import Any, Callable  # `Feed` is made at run time, which Python 3.8 does with these

from edgeward.runtimes.agent import AgentError

GPU_PROVIDERS = ("CUDAExecutionProvider", "TensorrtExecutionProvider")
MOST_EVENTS = 200_000  # of one record, for more than one timed inference
ENGINE_EVENTS = 950_000  # of one record at all: at a million the engine stops recording
Feed = Callable[["Session"], "dict[str, Any]"]
Events = list  # of the profiler's events, one for each time that a kernel ran


class Session:
    """A model in onnxruntime, with its inputs and outputs bound to host memory."""

    def __init__(self, session: Any) -> None:
        self._session = session
        self._binding = session.io_binding()
        self.providers = session.get_providers()
        self.inputs = [
            (i.name, i.type, [side if isinstance(side, int) else None for side in i.shape])
            for i in session.get_inputs()
        ]

    def bind(self, feed: dict[str, Any]) -> Callable[[], Any]:
        """Return a function that runs one inference on `feed`."""
        self._feed = feed  # the binding only points at the arrays
        binding = self._session.io_binding()
        for name, array in feed.items():
            binding.bind_cpu_input(name, array)
        for output in self._session.get_outputs():
            binding.bind_output(output.name, "cpu")
        self._binding = binding
        return partial(self._session.run_with_iobinding, binding)

    def outputs(self) -> list[Any]:
        """Return the outputs of the latest inference."""
        return self._binding.copy_outputs_to_cpu()

    def end_profiling(self) -> str:
        """Return the path of the record of the kernels, which is now complete."""
        return self._session.end_profiling()


class Engine:
    """onnxruntime with named execution providers.

    Settings: ``providers``, ``provider_options`` {provider: {key: value}}, ``spinning``.
    """

    name = "onnxruntime"

    def __init__(self, settings: dict[str, Any]) -> None:
        try:
            import onnxruntime
        except ImportError as error:
            raise AgentError("engine", f"onnxruntime cannot be imported: {error}") from error
        self._ort = onnxruntime
        self._settings = settings
        self.version = onnxruntime.__version__
        self.on_gpu = any(name in GPU_PROVIDERS for name in settings["providers"])
        there = self.available()
        missing = [name for name in settings["providers"] if name not in there]
        if missing:
            raise AgentError(
                "provider", f"{', '.join(missing)} (this build has {', '.join(there)})"
            )

    def available(self) -> list[str]:
        """Return the providers that this build has."""
        return list(self._ort.get_available_providers())

    def open(
        self,
        model: str | bytes,
        threads: int,
        batch: int,  # noqa: ARG002 - stays dynamic here
        shared: bool = False,
        profile: tuple[str, bool] | None = None,
    ) -> Session:
        """Open a model.

        Parameters
        ----------
        threads : of the intra-op pool, the calling one included.
        batch : not used here; a dynamic batch stays dynamic.
        shared : whether other sessions of the process run in turn with this one: its threads then
            stop spinning when its inference ends.
        profile : where to write a record of the kernels, and whether to pack the weights.
        """
        ort = self._ort
        options = ort.SessionOptions()
        options.intra_op_num_threads = threads
        options.inter_op_num_threads = 1
        options.execution_mode = ort.ExecutionMode.ORT_SEQUENTIAL
        options.graph_optimization_level = ort.GraphOptimizationLevel.ORT_ENABLE_ALL
        options.log_severity_level = 3
        spinning = "1" if self._settings["spinning"] else "0"
        options.add_session_config_entry("session.intra_op.allow_spinning", spinning)
        if shared:
            options.add_session_config_entry("session.force_spinning_stop", "1")
        if profile is not None:
            options.enable_profiling = True
            options.profile_file_prefix = profile[0]
            if not profile[1]:
                options.add_session_config_entry("session.disable_prepacking", "1")
        wanted = self._settings["providers"]
        per_provider = self._settings["provider_options"]
        try:
            session = ort.InferenceSession(
                model,
                options,
                providers=wanted,
                provider_options=[per_provider.get(name, {}) for name in wanted],
            )
        except Exception as error:  # the engine has a dozen exception types of its own
            raise AgentError("model", str(error)) from error
        refused = [name for name in wanted if name not in session.get_providers()]
        if refused:
            raise AgentError(
                "provider",
                f"{', '.join(refused)} did not start (active: {session.get_providers()}; "
                f"this build has {', '.join(self.available())})",
            )
        return Session(session)

    def kernels(
        self, model: str, threads: int, batch: int, feed: Feed, runs: int
    ) -> tuple[int, list[dict[str, Any]]]:
        """Return the number of timed inferences and the kernels; see `edgeward.runtimes.agent`.

        The tensors come from a session that leaves the weights as they are: packed ones vanish from
        the record. The times come from one that packs them, as sessions do; without that an INT8
        convolution takes twice as long. Which kernels run does not depend on it.
        """
        total, shapes = self._record(model, threads, batch, feed, 1, prepack=False)
        runs = max(1, min(runs, MOST_EVENTS // max(1, total) - 1))
        if (runs + 1) * total > ENGINE_EVENTS:
            raise AgentError(
                "run",
                f"one inference runs {len(shapes)} kernels, too many for the engine's profiler; half as many "
                "pixels or voxels need half as many.",
            )
        durations: dict[tuple, list] = {}
        for event in self._record(model, threads, batch, feed, runs + 1, prepack=True)[1]:
            durations.setdefault(_key(event), []).append(event["dur"])
        inside = _inside(shapes)
        kernels: dict[tuple, dict[str, Any]] = {}
        for event in shapes:
            key, args = _key(event), event["args"]
            if key in kernels:
                continue
            taken = durations.get(key, [])
            calls = len(taken) // (runs + 1)
            if calls == 0 or len(taken) % (runs + 1):
                raise AgentError(
                    "run", f"kernel {event['name']} did not run equally often each time"
                )
            sums = [sum(taken[i : i + calls]) for i in range(calls, len(taken), calls)]
            kernels[key] = {
                "name": event["name"][: -len("_kernel_time")],
                "operator": args["op_name"],
                "provider": args.get("provider"),
                "inputs": _tensors(args.get("input_type_shape", [])),
                "outputs": _tensors(args.get("output_type_shape", [])),
                "weight_bytes": int(args["parameter_size"]) if "parameter_size" in args else None,
                "calls": calls,
                "inside": inside.get(key),
                "us": median(sums),
            }
        return runs, list(kernels.values())

    def _record(
        self, model: str, threads: int, batch: int, feed: Feed, runs: int, prepack: bool
    ) -> tuple[int, Events]:
        """Profile some inferences in a session of their own; see `_read`."""
        with tempfile.TemporaryDirectory(prefix="edgeward-agent-") as folder:
            profile = (str(Path(folder) / "kernels"), prepack)
            session = self.open(model, threads, batch, profile=profile)
            run = session.bind(feed(session))
            try:
                for _ in range(runs):
                    run()
            except Exception as error:
                raise AgentError("run", str(error)) from error
            return _read(Path(session.end_profiling()))


def _read(path: Path) -> tuple[int, Events]:
    """Return the number of all events in the engine's record, and the events of kernels.

    There may be a million, an event a line, so they are read one by one, and of all but the first event of a
    kernel only what `_key` and `_inside` need is kept.
    """
    total, kernels, seen = 0, [], set()
    with path.open() as lines:
        for line in lines:
            text = line.strip().rstrip(",")
            if text in ("", "[", "]"):
                continue
            event = json.loads(text)
            total += 1
            if event.get("cat") != "Node" or not event["name"].endswith("_kernel_time"):
                continue
            key, args = _key(event), event["args"]
            if key in seen:
                few = {k: args[k] for k in ("node_index", "op_name") if k in args}
                event = {**{k: event[k] for k in ("name", "ts", "dur")}, "args": few}
            seen.add(key)
            kernels.append(event)
    return total, kernels


def _key(event: dict[str, Any]) -> tuple:
    return event["args"].get("node_index"), event["name"]


def _inside(events: Events) -> dict[tuple, str]:
    """Return which kernels run inside another one (the body of a Scan, Loop or If), and its name."""
    found: dict[tuple, str] = {}
    around: list = []  # the kernels that have begun and not ended
    for event in sorted(events, key=lambda e: (e["ts"], -e["dur"])):
        end = event["ts"] + event["dur"]
        around = [a for a in around if a[0] >= end and a[1] in {"Scan", "Loop", "If"}]
        if around:
            found[_key(event)] = around[-1][2]
        around.append((end, event["args"]["op_name"], event["name"][: -len("_kernel_time")]))
    return found


def _tensors(entries: list) -> list:
    return [list(next(iter(entry.items()))) for entry in entries]
