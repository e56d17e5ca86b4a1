"""How the agent is started on a device, and what its failures mean to the user."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

from edgeward.core.errors import UserError
from edgeward.profiling.bundle import agent_file
from edgeward.profiling.config import ProfileConfig

ADVICE = {
    "engine": "Install it there, or change `engine.name` in {where}.",
    "provider": "Change `engine.providers` in {where}.",
    "model": "Export it again, or change `engine` in {where}.",
    "input": "edgeward profiles models with one image input; export it with the stage `export`.",
    "run": "Change `engine` or `batch` in {where}.",
}
PROBLEM = {
    "engine": "the engine is missing",
    "provider": "an execution provider is missing",
    "model": "the model cannot be loaded",
    "input": "the model's input is not supported",
    "run": "the inference failed",
}


def _start(request: str, deadline_s: float) -> tuple[int, str, str]:
    """Run the agent in a process of its own on this host; return exit status, stdout, stderr."""
    with tempfile.TemporaryDirectory(prefix="edgeward-") as folder:
        program = Path(folder) / "agent.pyz"
        program.write_bytes(agent_file()[0])
        process = subprocess.Popen(
            [sys.executable, str(program)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            start_new_session=True,
        )
        try:
            out, err = process.communicate(request, timeout=deadline_s)
        except BaseException:
            os.killpg(process.pid, signal.SIGKILL)
            process.communicate()
            raise
    return process.returncode, out, err


def ask(request: dict[str, Any], cfg: ProfileConfig) -> dict[str, Any]:
    """Have the agent on the device do one request in a fresh process.

    Raises
    ------
    UserError
        If the agent fails, dies or is not done by the deadline.
    """
    where = f"config/profile/{cfg.name}.yaml"
    model = request["model"]
    try:
        status, out, err = _start(json.dumps(request), cfg.deadline_s)
    except subprocess.TimeoutExpired as error:
        raise UserError(
            f"device '{cfg.name}': profiling {model} was not done after {cfg.deadline_s:g} s; "
            f"change `deadline_s` in {where}."
        ) from error
    try:
        answer = json.loads(out)
    except json.JSONDecodeError as error:
        tail = err.strip()[-2000:] or "it printed nothing"
        raise UserError(
            f"device '{cfg.name}': the process that profiles {model} ended with status {status} "
            f"and without an answer; {tail}"
        ) from error
    if not answer["ok"]:
        kind = answer["kind"]
        raise UserError(
            f"device '{cfg.name}', {model}: {PROBLEM[kind]}: {answer['message'].strip()} "
            f"{ADVICE[kind].format(where=where)}"
        )
    return answer
