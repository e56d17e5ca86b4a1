"""What kubectl does for `profiles/kubernetes`, without a cluster: a Job is checked against Kubernetes' own schema and runs here.

``kubectl create -f -`` | ``kubectl get job NAME .. -o json`` | ``kubectl delete job .. NAME ..``; $KUBECTL_JOBS is a folder for what it knows.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import kubernetes_validate

SCHEMAS = "1.31"


def main() -> None:
    known = Path(os.environ["KUBECTL_JOBS"])
    verb = sys.argv[1]
    if verb == "create":
        job = json.load(sys.stdin)
        kubernetes_validate.validate(job, SCHEMAS, strict=True)
        at = known / job["metadata"]["name"]
        at.mkdir()
        (at / "job.json").write_text(json.dumps(job))
        [container] = job["spec"]["template"]["spec"]["containers"]
        script = f'"$@"; echo $? > "{at}/code.part"; mv "{at}/code.part" "{at}/code"'
        with (at / "log").open("wb") as log:
            subprocess.Popen(
                ["/bin/sh", "-c", script, "pod", *container["command"]],
                cwd="/", stdin=subprocess.DEVNULL, stdout=log, stderr=log, start_new_session=True,
            )  # fmt: skip
    elif verb == "get":
        code = known / sys.argv[3] / "code"
        state = {"active": 1}
        if code.exists():
            state = {"failed": 1} if int(code.read_text()) else {"succeeded": 1}
        print(json.dumps({"status": state}))
    else:
        sys.exit(f"kubectl {verb} is not asked for here")


if __name__ == "__main__":
    main()
