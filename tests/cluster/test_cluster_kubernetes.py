"""A sweep through profiles/kubernetes with a stand-in for kubectl: each Job is checked against Kubernetes' schema and runs here.

No cluster and no image: what those add is not tested. ``python -m pytest tests/cluster`` with
snakemake-executor-plugin-cluster-generic and kubernetes-validate beside the project.
"""

from __future__ import annotations

import json
import os
import sys
from importlib.util import find_spec
from pathlib import Path

import pytest
from workspace import copy_project

NEEDED = ("snakemake_executor_plugin_cluster_generic", "kubernetes_validate")
LACKING = [name for name in NEEDED if find_spec(name) is None]
pytestmark = [
    pytest.mark.skipif(bool(LACKING), reason=f"not installed: {', '.join(LACKING)}"),
    pytest.mark.timeout(3000),
]
AT = "results/phantom_tiny/mobilenetv3_small/s0"
STAND_IN = Path(__file__).parents[1] / "helpers" / "kubectl_stand_in.py"


def test_a_sweep_goes_through(tmp_path: Path) -> None:
    kubectl = tmp_path / "bin" / "kubectl"
    kubectl.parent.mkdir()
    kubectl.write_text(f'#!/bin/sh\nexec "{sys.executable}" "{STAND_IN}" "$@"\n')
    kubectl.chmod(0o755)
    jobs = tmp_path / "jobs"
    jobs.mkdir()
    study = copy_project(tmp_path / "study")
    path = f"{kubectl.parent}:{Path(sys.executable).parent}:{os.environ['PATH']}"
    targets = [f"{AT}/fp32/assess/safety.json", f"{AT}/ptq_int8/export/model.onnx"]
    study.snakemake(
        *("--workflow-profile", "profiles/kubernetes", "--config", "sweep=smoke", "--", *targets),
        PATH=path,
        KUBECTL_JOBS=str(jobs),
        PYTHONPATH=os.environ.get("PYTHONPATH", ""),  # where the plugin may lie
    )
    pods = {}
    for file in jobs.glob("*/job.json"):
        job = json.loads(file.read_text())
        pods[job["metadata"]["labels"]["rule"]] = job["spec"]["template"]["spec"]["containers"][0]
    assert set(pods) == {"prepare", "train", "compress", "export", "assess"}
    limits = {rule: pod["resources"]["limits"] for rule, pod in pods.items()}
    assert limits["train"]["nvidia.com/gpu"] == "1"
    assert limits["train"]["cpu"] == "4"
    assert "nvidia.com/gpu" not in limits["export"]
    assert study.planned("--config", "sweep=smoke", "--", *targets) == {}
    here = copy_project(tmp_path / "here")
    here.snakemake("--config", "sweep=smoke", "--", targets[1])
    assert (study.root / targets[1]).read_bytes() == (here.root / targets[1]).read_bytes()
