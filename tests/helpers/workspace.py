"""A copy of the project in which a test can run Snakemake."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

PROJECT = Path(__file__).resolve().parents[2]
PARTS = ["Snakefile", "config", "workflow", "profiles", "src", "envs"]


@dataclass(frozen=True)
class Workspace:
    """A copy of the project in which Snakemake can be run."""

    root: Path

    def snakemake(
        self, *args: str, check: bool = True, **variables: str
    ) -> subprocess.CompletedProcess[str]:
        """Run Snakemake here, with more environment variables; return what it printed (stdout and stderr together)."""
        environment = {
            k: v for k, v in os.environ.items() if not k.startswith(("MLFLOW", "PYTHONPATH"))
        } | variables
        done = subprocess.run(
            [sys.executable, "-m", "snakemake", "--cores", "2", *args],
            cwd=self.root,
            env=environment,
            text=True,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            timeout=2000,
        )
        if check:
            assert done.returncode == 0, done.stdout
        return done

    def planned(self, *args: str) -> dict[str, int]:
        """Return rule -> number of jobs that a dry run plans, without `all`."""
        printed = self.snakemake("-n", "--quiet", "rules", *args).stdout
        jobs = {m[1]: int(m[2]) for m in re.finditer(r"^(\w+) +(\d+)$", printed, re.MULTILINE)}
        assert jobs or "Nothing to be done" in printed, printed
        return {rule: n for rule, n in jobs.items() if rule not in {"all", "total"}}

    def edit(self, file: str, old: str, new: str) -> None:
        """Replace `old`, which must be there, by `new` in a file of the copy."""
        path = self.root / file
        text = path.read_text()
        assert old in text, f"{file} no longer holds {old!r}"
        path.write_text(text.replace(old, new, 1))


def copy_project(to: Path) -> Workspace:
    """Copy what a run needs from the checkout."""
    for part in PARTS:
        source = PROJECT / part
        if source.is_dir():
            shutil.copytree(
                source, to / part, ignore=shutil.ignore_patterns("__pycache__", "*.egg-info")
            )
        else:
            to.mkdir(parents=True, exist_ok=True)
            shutil.copy2(source, to / part)
    return Workspace(to)
