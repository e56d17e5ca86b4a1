"""The deliverer as the workflow runs it: started with the first job, drained after the last."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from pathlib import Path

from edgeward.tracking.address import default_uri, without_credentials
from edgeward.tracking.outbox import pending

PATIENCE_S = 120


def deliver_command(outbox: Path, *options: str) -> list[str]:
    """Return the command that delivers `outbox` to the store that the environment names."""
    module = [sys.executable, "-m", "edgeward.tracking.deliver"]
    return [*module, "--outbox", str(outbox), "--experiment", "edgeward", *options]


class DeliveryProcess:
    """The process that delivers an outbox during one run of the workflow; what it prints goes to `log`."""

    def __init__(self, outbox: Path, log: Path) -> None:
        self.outbox = outbox
        self.log = log
        self.started = time.time()
        self._process: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        """Start the process that delivers entries while the stages run; a killed parent it outlives by seconds."""
        self.started = time.time()
        self.outbox.mkdir(parents=True, exist_ok=True)
        self.log.parent.mkdir(parents=True, exist_ok=True)
        with self.log.open("a") as handle:
            self._process = subprocess.Popen(
                deliver_command(self.outbox, "--follow", str(os.getpid())),
                stdout=handle,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )

    @property
    def pid(self) -> int | None:
        """Its number, if it was started."""
        return None if self._process is None else self._process.pid

    def finish(self, patience_s: float = PATIENCE_S) -> list[str]:
        """Let it deliver what is left, for so long; return what the user must know, one line each."""
        if self._process is not None:
            self._process.terminate()  # it drains the outbox, then ends
            try:
                self._process.wait(timeout=patience_s)
            except subprocess.TimeoutExpired:
                self._process.kill()
        store = without_credentials(default_uri())
        said = []
        if left := len(pending(self.outbox)):
            said.append(
                f"MLflow: {left} entries could not be delivered to {store} ({self.log}); they are kept: "
                "run 'snakemake --cores 1 tracking_sync' when the store is back."
            )
        if refused := len(list((self.outbox / "failed").glob("*.json"))):
            said.append(
                f"MLflow: {refused} entries were refused by {store}; "
                f"why: {self.outbox}/failed/*.reason.txt"
            )
        return said
