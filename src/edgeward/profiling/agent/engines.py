"""The engines, behind one small interface."""

from __future__ import annotations

import hashlib
from pathlib import Path
from typing import Any

from .conditions import cores
from .errors import AgentError


def load_engine(providers: list[str]) -> Any:
    try:
        import onnxruntime
    except ImportError as error:
        raise AgentError("engine", f"onnxruntime cannot be imported: {error}") from error
    there = onnxruntime.get_available_providers()
    missing = [name for name in providers if name not in there]
    if missing:
        raise AgentError("provider", f"{', '.join(missing)} (this build has {', '.join(there)})")
    return onnxruntime


def check_model(request: dict[str, Any]) -> None:
    """Compare the file's hash with the one asked for; this also brings it into the page cache."""
    try:
        with Path(request["model"]).open("rb") as handle:
            digest = hashlib.sha256()
            while block := handle.read(1 << 20):
                digest.update(block)
    except OSError as error:
        raise AgentError("model", str(error)) from error
    found = digest.hexdigest()
    if found != request["sha256"]:
        raise AgentError("model", f"its SHA-256 is {found}, not {request['sha256']}")


def session_options(onnxruntime: Any, request: dict[str, Any]) -> tuple[Any, int]:
    threads = request["threads"] or len(cores())
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = threads
    options.inter_op_num_threads = 1
    options.execution_mode = onnxruntime.ExecutionMode.ORT_SEQUENTIAL
    options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_ENABLE_ALL
    options.log_severity_level = 3
    spinning = "1" if request["spinning"] else "0"
    options.add_session_config_entry("session.intra_op.allow_spinning", spinning)
    return options, threads


def open_session(onnxruntime: Any, request: dict[str, Any], options: Any) -> Any:
    try:
        session = onnxruntime.InferenceSession(
            request["model"], options, providers=request["providers"]
        )
    except Exception as error:  # the engine has a dozen exception types of its own
        raise AgentError("model", str(error)) from error
    active = session.get_providers()
    refused = [name for name in request["providers"] if name not in active]
    if refused:
        raise AgentError("provider", f"{', '.join(refused)} did not start (active: {active})")
    return session


def random_image(session: Any, request: dict[str, Any]) -> tuple[str, Any]:
    """Return the input's name and a random image, float32 (batch, c, h, w), whole numbers."""
    import numpy as np

    inputs = session.get_inputs()
    if len(inputs) != 1 or inputs[0].type != "tensor(float)" or len(inputs[0].shape) != 4:
        found = ", ".join(f"{i.name} {i.type} {i.shape}" for i in inputs)
        raise AgentError("input", f"one float32 image (batch, c, h, w) expected, found: {found}")
    shape = [request["batch"], *inputs[0].shape[1:]]
    if not all(isinstance(side, int) for side in shape):
        raise AgentError("input", f"only the batch may be dynamic, found {inputs[0].shape}")
    low, high = request["input_range"]
    rng = np.random.default_rng(request["seed"])
    return inputs[0].name, rng.integers(low, high + 1, shape).astype(np.float32)
