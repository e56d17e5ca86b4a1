"""A sweep through Slurm, on a controller and two nodes that are this machine: what fails there, and that results are those of here.

``python -m pytest tests/cluster`` as root, with Debian's slurm-wlm, slurmdbd, munge and mariadb-server, and
snakemake-executor-plugin-slurm beside the project. A quarter of an hour on two cores.
"""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from importlib.util import find_spec
from pathlib import Path

import pytest
from workspace import Workspace, copy_project

SCRIPT = Path(__file__).with_name("slurm.sh")
AT = "results/phantom_tiny/mobilenetv3_small/s0"
# Small nodes without a GPU.
MEASURE = ("ceilings", "profile", "interleave", "scaling_profile")
HERE = [
    "--workflow-profile",
    "profiles/slurm",
    "--set-threads",
    "train=1",
    "compress=1",
    *(f"{rule}={os.cpu_count()}" for rule in MEASURE),
    "--set-resources",
    "train:gpu=0",
    "compress:gpu=0",
]


def lacking() -> str:
    """Return why Slurm cannot be started here, or ""."""
    if os.getuid() != 0:
        return "starting Slurm's daemons needs root"
    path = f"/usr/sbin:{os.environ['PATH']}"
    for program in ("slurmctld", "slurmd", "slurmdbd", "munged", "mariadbd"):
        if shutil.which(program, path=path) is None:
            return (
                f"{program} is not installed (Debian: slurm-wlm, slurmdbd, munge, mariadb-server)"
            )
    if find_spec("snakemake_executor_plugin_slurm") is None:
        return "snakemake-executor-plugin-slurm is not installed"
    return ""


pytestmark = [pytest.mark.skipif(bool(lacking()), reason=lacking()), pytest.mark.timeout(3000)]


@pytest.fixture(scope="module")
def slurm(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """The folder of a running Slurm."""
    at = tmp_path_factory.mktemp("slurm")
    subprocess.run([SCRIPT, "start", at], check=True, timeout=120)
    yield at
    subprocess.run([SCRIPT, "stop", at], check=True, timeout=60)


def through_slurm(workspace: Workspace, *args: str) -> subprocess.Popen[str]:
    environment = {k: v for k, v in os.environ.items() if not k.startswith("MLFLOW")}
    return subprocess.Popen(
        [sys.executable, "-m", "snakemake", *HERE, *args],
        cwd=workspace.root,
        env=environment,
        text=True,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
    )


def until(found: Callable[[], object], seconds: float = 900) -> None:
    deadline = time.monotonic() + seconds
    while not found():
        assert time.monotonic() < deadline, "it never came to that"
        time.sleep(0.5)


def asked(*command: str) -> str:
    return subprocess.run(command, capture_output=True, text=True, check=True).stdout.strip()


def node_of(rule: str) -> str:
    """Return the node on which a job of the rule runs; "" if none does. Snakemake puts the rule into the comment."""
    lines = asked("squeue", "-h", "-t", "running", "-o", "%k %N").splitlines()
    return next((line.split()[-1] for line in lines if line.startswith(f"rule_{rule}")), "")


def test_a_sweep_goes_through_though_a_node_dies(slurm: Path, tmp_path: Path) -> None:
    workspace, here = copy_project(tmp_path / "there"), copy_project(tmp_path / "here")
    sweep = through_slurm(workspace, "--config", "sweep=smoke")
    until(lambda: node_of("train"))
    node = node_of("train")
    subprocess.run([SCRIPT, "kill", slurm, node], check=True)
    until(lambda: asked("sinfo", "-h", "-n", node, "-o", "%t").startswith("down"))
    subprocess.run([SCRIPT, "node", slurm, node], check=True)
    printed, _ = sweep.communicate(timeout=2400)
    assert sweep.returncode == 0, printed
    print(asked("sacct", "-a", "-D", "-X", "-o", "JobID,Comment%60,State,NodeList,Elapsed"))
    states = asked("sacct", "-a", "-D", "-X", "-n", "-P", "-o", "State,Comment").splitlines()
    # By which of the two the controller hears of it first: the node, or the job that died with it.
    assert [s for s in states if re.match(r"(NODE_FAIL|FAILED)\|rule_train", s)], states
    assert [s for s in states if s.startswith("COMPLETED|rule_train")], states
    assert workspace.planned("--config", "sweep=smoke") == {}
    made = [f"{AT}/ptq_int8/{name}" for name in ("export/model.onnx", "assess/verdict.json")]
    here.snakemake("--config", "sweep=smoke", "--", *made)
    for file in made:
        assert (workspace.root / file).read_bytes() == (here.root / file).read_bytes()


def test_a_job_over_its_memory_is_an_error_that_says_so(slurm: Path, tmp_path: Path) -> None:
    del slurm
    workspace = copy_project(tmp_path / "project")
    target = "results/phantom_tiny/prepare/card.json"
    small = ["--set-resources", "prepare:mem_mb=60", "--retries", "0"]
    sweep = through_slurm(workspace, *small, "--config", "sweep=smoke", "--", target)
    printed, _ = sweep.communicate(timeout=600)
    assert sweep.returncode != 0
    # Without control groups Slurm calls it FAILED; the log that is named says why.
    [log] = set(re.findall(r"(/\S+/slurm_logs/\S+\.log)", printed))
    assert "OUT_OF_MEMORY" in printed or "exceeded memory limit" in Path(log).read_text(), printed
    assert not (workspace.root / target).exists()
