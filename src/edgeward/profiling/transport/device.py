"""What every transport offers, and what an answer of the agent means to the user."""

from __future__ import annotations

import json
from abc import ABC, abstractmethod
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from edgeward.core.errors import UserError
from edgeward.profiling.bundle import agent_file

if TYPE_CHECKING:
    from edgeward.profiling.config import DeviceConfig

PROBLEM = {
    "file": "the model did not arrive as it was sent",
    "affinity": "the cores cannot be taken",
    "engine": "the engine is missing",
    "provider": "an execution provider is missing",
    "model": "the model cannot be loaded",
    "input": "the model's input is not supported",
    "run": "the inference failed",
}
ADVICE = {
    "file": "Run the stage again.",
    "affinity": "Change `affinity` in {where}.",
    "engine": "Install it there, or change `engine.name` in {where}.",
    "provider": "Change `engine` in {where}.",
    "model": "Export it again, or change `engine` in {where}.",
    "input": "edgeward profiles models with one image input; export it with the stage `export`.",
    "run": "Change `engine` or `batch` in {where}.",
}


class Refused(UserError):
    """The engine on the device cannot load the model.

    Attributes
    ----------
    reason : what the engine said, on one line.
    """

    def __init__(self, message: str, reason: str) -> None:
        super().__init__(message)
        self.reason = reason


@dataclass(frozen=True)
class Ended:
    """How a process of the agent ended."""

    status: int
    out: str
    err: str
    timed_out: bool = False


class Device(ABC):
    """An open device; `ask` it as often as needed.

    Attributes
    ----------
    emulated : whether an emulator executes the instructions, so that times mean nothing.
    """

    emulated = False

    def __init__(self, cfg: DeviceConfig) -> None:
        self.cfg = cfg
        self.where = f"config/profile/{cfg.name}.yaml"

    @property
    def agent_sha256(self) -> str:
        """SHA-256 of the program that measures on the device."""
        return agent_file(self.cfg.engine.name)[1]

    @abstractmethod
    def _place(self, file: Path) -> str:
        """Make a local file present on the device; return its path there."""

    @abstractmethod
    def _run(self, request: str, deadline_s: float) -> Ended:
        """Run the agent in a fresh process on the device until it ends or the deadline passes."""

    def ask(self, request: dict[str, Any], longer_s: float = 0.0) -> dict[str, Any]:
        """Have the agent on the device do one request in a fresh process.

        Parameters
        ----------
        request : as `edgeward.profiling.agent` describes them; ``model`` and the entries of
            ``models`` are paths of files here, which are brought to the device.
        longer_s : it may take so much longer than `deadline_s` of the device.

        Raises
        ------
        Refused
            If the engine cannot load the model.
        UserError
            If the agent fails, dies or is not done by the deadline, or the device is lost.
        """
        sent = dict(request)
        names = [*request.get("models", ())]
        if "models" in request:
            sent["models"] = [self._place(Path(name)) for name in names]
        if "model" in request:
            names.insert(0, request["model"])
            sent["model"] = self._place(Path(request["model"]))
        deadline_s = self.cfg.deadline_s + longer_s
        ended = self._run(json.dumps(sent), deadline_s)
        return self._understand(ended, ", ".join(names), deadline_s)

    def _understand(self, ended: Ended, subject: str, deadline_s: float) -> dict[str, Any]:
        who = f"device '{self.cfg.name}'" + (f", {subject}" if subject else "")
        if ended.timed_out:
            raise UserError(
                f"{who}: the agent was not done after {deadline_s:g} s; "
                f"change `deadline_s` in {self.where}."
            )
        try:
            answer = json.loads(ended.out)
        except json.JSONDecodeError as error:
            tail = ended.err.strip()[-2000:] or "it printed nothing"
            raise UserError(
                f"{who}: the agent ended with status {ended.status} and without an answer; {tail}"
            ) from error
        if not answer["ok"]:
            kind = answer["kind"]
            message = (
                f"{who}: {PROBLEM.get(kind, kind)}: {answer['message'].strip()} "
                f"{ADVICE.get(kind, 'Change it in {where}.').format(where=self.where)}"
            )
            if kind == "model":
                raise Refused(message, one_line(answer["message"]))
            raise UserError(message)
        return answer


def one_line(message: str) -> str:
    """Return what an engine said with its line breaks and runs of blanks as single blanks."""
    return " ".join(message.split())
