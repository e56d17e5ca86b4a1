"""Which kernels execute, on which tensors, and how long each takes."""

from __future__ import annotations

import json
import tempfile
from pathlib import Path
from statistics import median
from typing import Any

from .engines import check_file, image_shape, load_engine, random_image, thread_count
from .errors import AgentError

MOST_EVENTS = 200_000  # of one record, for more than one timed inference
ENGINE_EVENTS = 950_000  # of one record at all: at a million the engine stops recording
Events = list  # of the profiler's events, one for each time that a kernel ran


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
                event = {k: event[k] for k in ("name", "ts", "dur")} | {"args": few}
            seen.add(key)
            kernels.append(event)
    return total, kernels


def _record(engine: Any, request: dict[str, Any], runs: int, prepack: bool) -> tuple[int, Events]:
    """Profile some inferences in a session of their own; see `_read`."""
    batch = request["batch"]
    with tempfile.TemporaryDirectory(prefix="edgeward-agent-") as folder:
        profile = (str(Path(folder) / "kernels"), prepack)
        session = engine.open(request["model"], thread_count(request), batch, profile=profile)
        name, shape = image_shape(session, batch)
        run = session.bind({name: random_image(shape, request)})
        try:
            for _ in range(runs):
                run()
        except Exception as error:
            raise AgentError("run", str(error)) from error
        return _read(Path(session.end_profiling()))


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


def operators(request: dict[str, Any]) -> dict[str, Any]:
    """Record the kernels of one inference: their tensors, how often each ran, and how long."""
    engine = load_engine(request)
    check_file(request["model"], request["sha256"])
    if engine.name == "onnxruntime":
        runs, kernels = _from_onnxruntime(engine, request)
    else:
        model, threads, batch = request["model"], thread_count(request), request["batch"]
        name, shape = image_shape(engine.open(model, threads, batch), batch)
        feed = {name: random_image(shape, request)}
        runs, kernels = (
            request["runs"],
            engine.kernels(model, threads, batch, feed, request["runs"]),
        )
    return {"threads": thread_count(request), "runs": runs, "kernels": kernels}


def _from_onnxruntime(engine: Any, request: dict[str, Any]) -> tuple[int, list[dict[str, Any]]]:
    """Return the number of timed inferences and the kernels.

    The tensors come from a session that leaves the weights as they are: packed ones vanish from
    the record. The times come from one that packs them, as sessions do; without that an INT8
    convolution takes twice as long. Which kernels run does not depend on it.
    """
    total, shapes = _record(engine, request, 1, prepack=False)
    runs = max(1, min(request["runs"], MOST_EVENTS // max(1, total) - 1))
    if (runs + 1) * total > ENGINE_EVENTS:
        raise AgentError(
            "run",
            f"one inference runs {len(shapes)} kernels, too many for the engine's profiler; half as many "
            "pixels or voxels need half as many.",
        )
    durations: dict[tuple, list] = {}
    for event in _record(engine, request, runs + 1, prepack=True)[1]:
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
            raise AgentError("run", f"kernel {event['name']} did not run equally often each time")
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
