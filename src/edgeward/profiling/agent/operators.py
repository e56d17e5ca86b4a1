"""Which kernels execute."""

from __future__ import annotations

import json
import tempfile
from pathlib import Path
from typing import Any

from .engines import check_model, load_engine, open_session, random_image, session_options
from .errors import AgentError


def operators(request: dict[str, Any]) -> dict[str, Any]:
    """Record the kernels of one inference, with the shapes of their tensors, and their mean time."""
    onnxruntime = load_engine(request["providers"])
    check_model(request)
    options, threads = session_options(onnxruntime, request)
    # Keeps the weights visible in the record; which kernels run does not depend on it.
    options.add_session_config_entry("session.disable_prepacking", "1")
    with tempfile.TemporaryDirectory(prefix="edgeward-agent-") as folder:
        options.enable_profiling = True
        options.profile_file_prefix = str(Path(folder) / "kernels")
        session = open_session(onnxruntime, request, options)
        name, image = random_image(session, request)
        try:
            for _ in range(request["runs"]):
                session.run(None, {name: image})
        except Exception as error:
            raise AgentError("run", str(error)) from error
        events = json.loads(Path(session.end_profiling()).read_text())
    kernels: dict[Any, dict[str, Any]] = {}
    for event in events:
        if event.get("cat") != "Node" or not event["name"].endswith("_kernel_time"):
            continue
        args = event["args"]
        key = (args.get("node_index"), event["name"])
        kernel = kernels.setdefault(
            key,
            {
                "name": event["name"][: -len("_kernel_time")],
                "operator": args["op_name"],
                "provider": args.get("provider"),
                "inputs": [next(iter(t.items())) for t in args.get("input_type_shape", [])],
                "outputs": [next(iter(t.items())) for t in args.get("output_type_shape", [])],
                "total_us": 0,
            },
        )
        kernel["total_us"] += event["dur"]
    found = [
        {
            **{k: v for k, v in kernel.items() if k != "total_us"},
            "us": kernel["total_us"] / request["runs"],
        }
        for kernel in kernels.values()
    ]
    return {"threads": threads, "kernels": found}
