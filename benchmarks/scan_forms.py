"""What each ONNX form of a selective recurrence costs in stock onnxruntime, against its length.

    python benchmarks/scan_forms.py --out results/benchmarks

Forms of the same size (K directions of D channels with N states, one image, one thread):

- ``s6 unrolled``: exact S6, the nodes of every token one after another, as a traced loop is exported;
- ``s6 scan``: exact S6, one ONNX Scan; ``s6 chunked scan``: what export writes for states this small;
- ``ssd linear attention``: Mamba-2 (one decay per head of 32 channels) as the operator that onnxruntime
  ships; ``ssd matmul`` and ``ssd scan``: the same model for engines that lack the operator.

SSD is another model than S6, so each form is compared with the float64 recurrence of its own model.
Every measurement has a process to itself; the forms take turns, round by round, so that a change of
the machine's speed meets all of them. Reported is the median over the rounds of the median latency of
a process, with the smallest and largest; memory is the growth of the resident set, in load and beyond
that at the peak of a run. Linux only (it resets the peak through /proc).
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np

HEAD = 32
COLUMNS = {
    "latency_ms": "latency, ms",
    "load_ms": "session load, ms",
    "run_mb": "peak of a run, MB",
    "load_mb": "memory of the session, MB",
}


def measure(model: Path, arrays: Path, seconds: float) -> dict[str, float]:
    """Load and run one model in this process."""
    import onnxruntime

    with np.load(arrays) as stored:
        feeds = {key: stored[key] for key in stored.files if key != "expected"}
        expected = stored["expected"]
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = 1
    options.log_severity_level = 3
    before, start = _status("VmRSS"), time.perf_counter()
    session = onnxruntime.InferenceSession(str(model), options, providers=["CPUExecutionProvider"])
    load, loaded = time.perf_counter() - start, _status("VmRSS")
    Path("/proc/self/clear_refs").write_text("5")  # forget the peak so far
    found = session.run(None, feeds)[0]
    peak = _status("VmHWM")
    times: list[float] = []
    began = time.perf_counter()
    while len(times) < 5 or (time.perf_counter() - began < seconds and len(times) < 1000):
        start = time.perf_counter()
        session.run(None, feeds)
        times.append(time.perf_counter() - start)
    return {
        "latency_ms": 1e3 * statistics.median(times),
        "load_ms": 1e3 * load,
        "load_mb": (loaded - before) / 1024,
        "run_mb": (peak - loaded) / 1024,
        "error": float(np.abs(found - expected).max() / np.abs(expected).max()),
    }


def _status(key: str) -> int:
    """Return an entry of /proc/self/status, in KiB."""
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(int(line.split()[1]) for line in lines if line.startswith(f"{key}:"))


def write_s6(folder: Path, length: int, k: int, d: int, n: int) -> dict[str, Any]:
    """Write inputs, their float64 result and the models of S6; return the forms."""
    from edgeward.models.ssm.reference import sequential_scan
    from edgeward.runtimes.onnxruntime.lowering import selective

    rng = np.random.default_rng(length)
    shapes = {"u": (length, k, 1, d), "dt": (length, k, 1, d), "a": (k, n, d)}
    shapes |= {"b": (length, k, 1, n), "c": (length, k, 1, n)}
    values = {name: rng.normal(size=shape).astype(np.float32) for name, shape in shapes.items()}
    values["dt"] = (10 ** rng.uniform(-3, -1, shapes["dt"])).astype(np.float32)
    values["a"] = np.broadcast_to(-np.arange(1, n + 1.0)[:, None], (k, n, d)).astype(np.float32)
    expected = sequential_scan(*values.values())[0]
    np.savez(folder / f"s6_{length}.npz", expected=expected, **values)
    chunk = selective.chunk_length(length, 1)
    writers = {
        "s6 unrolled": selective.unrolled,
        "s6 scan": selective.scan,
        "s6 chunked scan": lambda site: selective.chunked_scan(site, chunk),
    }
    return {form: ("SelectiveScan", values, write, {}) for form, write in writers.items()}


def write_ssd(folder: Path, length: int, k: int, d: int, n: int) -> dict[str, Any]:
    """Write inputs, their float64 result and the models of SSD; return the forms."""
    import torch

    from edgeward.models.ssm.gated import sequential
    from edgeward.runtimes.onnxruntime.lowering import gated

    rng = np.random.default_rng(length)
    heads = d // HEAD
    shapes = {"q": (k, length, n), "k": (k, length, n), "v": (k, length, d)}
    values = {name: rng.normal(size=shape).astype(np.float32) for name, shape in shapes.items()}
    steps = 10 ** rng.uniform(-3, -1, (k, length, heads))
    values["v"] *= np.repeat(steps, HEAD, axis=2).astype(np.float32)
    values["g"] = (-steps * rng.uniform(1, 16, heads)).astype(np.float32)
    with torch.no_grad():
        double = [torch.from_numpy(value).double() for value in values.values()]
        expected = sequential(*double, heads).numpy()
    np.savez(folder / f"ssd_{length}.npz", expected=expected, **values)
    attributes = {"heads": heads, "groups": 1}
    names = {"linear_attention": "ssd linear attention", "matmul": "ssd matmul", "scan": "ssd scan"}
    return {
        label: ("GatedScan", values, gated.FORMS[form], attributes) for form, label in names.items()
    }


def write_model(path: Path, operator: str, values: Any, write: Any, attributes: Any) -> int:
    """Write one form as a model of its own; return the number of its nodes, bodies included."""
    import onnx
    from onnx import TensorProto, helper

    from edgeward.runtimes.onnxruntime.lowering import DOMAIN, VERSIONS, Site

    outputs = ["y", "starts"] if operator == "SelectiveScan" else ["y"]
    node = helper.make_node(operator, list(values), outputs, domain=DOMAIN, **attributes)
    # The batch is one here, but written as any: S6 has it third, SSD (with directions) first.
    batch = {name: (2 if value.ndim == 4 else 0) for name, value in values.items()}
    batch.pop("a", None)
    shapes = {name: list(value.shape) for name, value in values.items()}
    for name, axis in batch.items():
        shapes[name][axis] = -1
    site = Site(node, shapes)
    write(site)
    kinds = {
        name: [f"batch{len(shape)}" if size == -1 else size for size in shape]
        for name, shape in shapes.items()
    }
    result = kinds["u" if operator == "SelectiveScan" else "v"]
    graph = helper.make_graph(
        site.nodes,
        "recurrence",
        [helper.make_tensor_value_info(n, TensorProto.FLOAT, s) for n, s in kinds.items()],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, result)],
        site.constants,
    )
    opsets = [helper.make_opsetid("", 20)]
    opsets += [
        helper.make_opsetid(domain, VERSIONS[domain])
        for domain in {node.domain for node in site.nodes} - {""}
    ]
    onnx.save(helper.make_model(graph, opset_imports=opsets, ir_version=10), path)
    return _count(graph)


def _count(graph: Any) -> int:
    bodies = [a.g for node in graph.node for a in node.attribute if a.HasField("g")]
    return len(graph.node) + sum(_count(body) for body in bodies)


def run_all(args: argparse.Namespace, folder: Path) -> list[dict[str, Any]]:
    """Write every model, then measure them in turns."""
    records: list[dict[str, Any]] = []
    for length in args.lengths:
        forms = write_s6(folder, length, args.directions, args.channels, args.states)
        forms |= write_ssd(folder, length, args.directions, args.channels, args.states)
        for form, (operator, values, write, attributes) in forms.items():
            record: dict[str, Any] = {"form": form, "length": length, "rounds": []}
            records.append(record)
            if form == "s6 unrolled" and length > args.longest_unrolled:
                record["skipped"] = f"longer than --longest-unrolled {args.longest_unrolled}"
                continue
            path = folder / f"{form.replace(' ', '_')}_{length}.onnx"
            record["nodes"] = write_model(path, operator, values, write, attributes)
            record["model"] = str(path)
            record["arrays"] = str(folder / f"{form.split()[0]}_{length}.npz")
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    for number in range(args.rounds):
        for record in records:
            if "model" not in record:
                continue
            command = [sys.executable, __file__, "--one", record["model"], record["arrays"]]
            command += ["--seconds", str(args.seconds)]
            done = subprocess.run(command, capture_output=True, text=True, env=environment)
            if done.returncode:
                raise SystemExit(f"{record['form']}, {record['length']}: {done.stderr}")
            record["rounds"].append(json.loads(done.stdout))
            print(
                f"round {number + 1}: {record['form']}, {record['length']} tokens: "
                f"{record['rounds'][-1]['latency_ms']:.2f} ms",
                flush=True,
            )
    for record in records:
        record.pop("model", None)
        record.pop("arrays", None)
        for key in [*COLUMNS, "error"] if record["rounds"] else []:
            found = sorted(entry[key] for entry in record["rounds"])
            record[key] = {"median": statistics.median(found), "low": found[0], "high": found[-1]}
    return records


def table(records: list[dict[str, Any]]) -> str:
    """Return the records as Markdown."""
    titles = ["tokens", "form", "nodes", "relative error", *COLUMNS.values(), "of `s6 scan`"]
    lines = ["| " + " | ".join(titles) + " |", "|" + "---|" * len(titles)]
    scan = {r["length"]: r["latency_ms"]["median"] for r in records if r["form"] == "s6 scan"}
    for record in records:
        cells = [str(record["length"]), record["form"]]
        if "skipped" in record:
            cells += [f"skipped: {record['skipped']}"] + [""] * (len(titles) - 3)
        else:
            cells += [str(record["nodes"]), f"{record['error']['high']:.1e}"]
            for key in COLUMNS:
                value = record[key]
                cells.append(f"{value['median']:.3g} ({value['low']:.3g}-{value['high']:.3g})")
            ratio = record["latency_ms"]["median"] / scan[record["length"]]
            cells.append(f"{ratio:.2g}")
        lines.append("| " + " | ".join(cells) + " |")
    return "\n".join(lines) + "\n"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--lengths", type=int, nargs="+", default=[256, 1024, 4096, 16384])
    parser.add_argument("--directions", type=int, default=4, help="K")
    parser.add_argument("--channels", type=int, default=96, help=f"D, a multiple of {HEAD}")
    parser.add_argument("--states", type=int, default=16, help="N")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--seconds", type=float, default=1.0, help="of timed runs in a process")
    parser.add_argument(
        "--longest-unrolled", type=int, default=1024, help="above, its load takes many minutes"
    )
    parser.add_argument("--out", type=Path, default=Path("results/benchmarks"))
    parser.add_argument("--one", type=Path, nargs=2, help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.one:
        print(json.dumps(measure(*args.one, args.seconds)))
        return
    if args.channels % HEAD:
        parser.error(f"--channels {args.channels} is not a multiple of {HEAD}")
    import onnxruntime

    from edgeward.core.io import atomic, write_json

    with tempfile.TemporaryDirectory() as folder:
        records = run_all(args, Path(folder))
    options = {key: value for key, value in vars(args).items() if key not in ("out", "one")}
    host = {"machine": platform.machine(), "onnxruntime": onnxruntime.__version__}
    write_json(args.out / "scan_forms.json", {"host": host, **options, "records": records})
    with atomic(args.out / "scan_forms.md") as temporary:
        temporary.write_text(table(records))
    print(table(records))


if __name__ == "__main__":
    main()
