"""Snakemake's jobs as Kubernetes Jobs, through kubectl: ``job.py submit .. SCRIPT`` prints a name, ``job.py status .. NAME`` how it goes.

Requests are limits too: a job that outgrows its memory ends, and not its neighbours, and processors are its own where the kubelet's
CPU manager is static. The pod runs as the user that submits it, so that files on the volume have one owner.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import uuid
from pathlib import Path
from typing import Any


def manifest(asked: argparse.Namespace) -> dict[str, Any]:
    """Return the Job that runs Snakemake's job script, whose text travels with it."""
    claim, _, place = asked.claim.partition(":")
    limits = {"cpu": str(asked.cpu), "memory": f"{asked.memory_mb}M"}
    if asked.gpu:
        limits["nvidia.com/gpu"] = str(asked.gpu)
    container = {
        "name": "job",
        "image": asked.image,
        "command": ["/bin/sh", "-c", Path(asked.script).read_text()],
        "resources": {"requests": limits, "limits": limits},
        "volumeMounts": [
            {"name": "study", "mountPath": place},
            # Data loaders share memory; the default of 64 MB is too little.
            {"name": "shm", "mountPath": "/dev/shm"},
        ],
        "securityContext": {
            "allowPrivilegeEscalation": False,
            "capabilities": {"drop": ["ALL"]},
        },
    }
    pod = {
        "restartPolicy": "Never",
        "automountServiceAccountToken": False,
        "securityContext": {
            "runAsUser": os.getuid(),
            "runAsGroup": os.getgid(),
            "seccompProfile": {"type": "RuntimeDefault"},
        },
        "containers": [container],
        "volumes": [
            {"name": "study", "persistentVolumeClaim": {"claimName": claim}},
            {"name": "shm", "emptyDir": {"medium": "Memory"}},
        ],
    }
    labels = {"app": "edgeward", "rule": asked.rule.replace("_", "-")}
    return {
        "apiVersion": "batch/v1",
        "kind": "Job",
        "metadata": {
            "name": f"edgeward-{labels['rule']}-{uuid.uuid4().hex[:10]}",
            "namespace": asked.namespace,
            "labels": labels,
        },
        "spec": {
            # Snakemake repeats what failed; Kubernetes clears away what nobody asks for any more.
            "backoffLimit": 0,
            "activeDeadlineSeconds": asked.seconds,
            "ttlSecondsAfterFinished": 86400,
            "template": {"metadata": {"labels": labels}, "spec": pod},
        },
    }


def kubectl(*arguments: str, given: str | None = None) -> str:
    """Run kubectl; return what it prints."""
    done = subprocess.run(
        ["kubectl", *arguments], input=given, text=True, check=True, stdout=subprocess.PIPE
    )
    return done.stdout


def submit(asked: argparse.Namespace) -> None:
    job = manifest(asked)
    kubectl("create", "-f", "-", given=json.dumps(job))
    print(job["metadata"]["name"])


def status(asked: argparse.Namespace) -> None:
    found = kubectl(
        "get", "job", asked.name, "--namespace", asked.namespace, "--ignore-not-found", "-o", "json"
    )
    state = json.loads(found)["status"] if found.strip() else {"failed": 1}
    print("success" if state.get("succeeded") else "failed" if state.get("failed") else "running")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    commands = parser.add_subparsers(required=True)
    one = commands.add_parser("submit")
    one.add_argument("--image", required=True)
    one.add_argument("--claim", required=True, help="<claim>:<where it is mounted>")
    one.add_argument("--namespace", required=True)
    one.add_argument("--rule", required=True)
    one.add_argument("--cpu", type=int, required=True)
    one.add_argument("--memory-mb", type=int, required=True)
    one.add_argument("--gpu", type=int, default=0)
    one.add_argument("--seconds", type=int, required=True)
    one.add_argument("script")
    one.set_defaults(run=submit)
    one = commands.add_parser("status")
    one.add_argument("--namespace", required=True)
    one.add_argument("name")
    one.set_defaults(run=status)
    asked = parser.parse_args()
    asked.run(asked)


if __name__ == "__main__":
    main()
