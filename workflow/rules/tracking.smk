"""MLflow: one process delivers the entries of all stages while the workflow runs."""

import subprocess
import time

from edgeward.tracking.address import default_uri, without_credentials
from edgeward.tracking.outbox import pending

OUTBOX = ".edgeward/outbox"
DELIVERER = {}


def deliver_command(*options):
    """Return the command that delivers the outbox."""
    return [
        *(sys.executable, "-m", "edgeward.tracking.deliver"),
        *("--outbox", OUTBOX, "--experiment", "edgeward"),
        *options,
    ]


def start_deliverer():
    """Start the process that delivers tracking entries while the stages run."""
    DELIVERER["started"] = time.time()
    log = Path("logs/tracking.log")
    log.parent.mkdir(parents=True, exist_ok=True)
    Path(OUTBOX).mkdir(parents=True, exist_ok=True)
    with log.open("a") as handle:
        DELIVERER["process"] = subprocess.Popen(
            deliver_command("--follow", str(os.getpid())),
            stdout=handle,
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )


def finish_deliverer():
    """Let it deliver what is left, within a minute, and say what could not be delivered."""
    process = DELIVERER.get("process")
    if process is None:
        return
    process.terminate()  # it drains the outbox, then ends
    try:
        process.wait(timeout=120)
    except subprocess.TimeoutExpired:
        process.kill()
    store = without_credentials(default_uri())
    if left := len(pending(Path(OUTBOX))):
        print(
            f"MLflow: {left} entries could not be delivered to {store} (logs/tracking.log); "
            "they are kept: run 'snakemake tracking_sync --cores 1' when the store is back.",
            file=sys.stderr,
        )
    if failed := len(list(Path(OUTBOX, "failed").glob("*.json"))):
        print(
            f"MLflow: {failed} entries were refused by {store}; why: {OUTBOX}/failed/*.reason.txt",
            file=sys.stderr,
        )


def conclude(success):
    """Print one row per finished candidate, and where to look next."""
    from edgeward.core.io import write_json
    from edgeward.core.results import evidence
    from edgeward.reporting.summary import table

    finish_deliverer()
    done = [evidence(c._asdict(), PLAN.sweep.device) for c in PLAN.candidates]
    done = [c for c in done if c["paths"]["verdict"].is_file()]
    if done:
        print(f"\n{table(done)}\n", file=sys.stderr)
    wall = time.time() - DELIVERER.get("started", time.time())
    write_json(
        Path(".edgeward/last_run.json"),
        {"sweep": PLAN.name, "success": success, "ended": time.time(), "wall_s": wall},
    )
    minutes, seconds = divmod(round(wall), 60)
    page = Path(f"results/report/{PLAN.name}/index.html")
    if success and page.is_file():
        print(f"Report: {page.resolve()}", file=sys.stderr)
    own = "mlflow ui   (in this folder, then open http://127.0.0.1:5000)"
    print(
        f"MLflow: {without_credentials(os.environ.get('MLFLOW_TRACKING_URI', '')) or own}",
        file=sys.stderr,
    )
    print(
        f"Sweep '{PLAN.name}': {'done' if success else 'stopped'} after {minutes} min {seconds} s",
        file=sys.stderr,
    )


onstart:
    start_deliverer()


onsuccess:
    conclude(True)


onerror:
    conclude(False)


localrules:
    tracking_sync,


rule tracking_sync:
    log:
        "logs/tracking_sync.log",
    conda:
        "../../envs/full.yaml"
    params:
        command=deliver_command("--wait"),
    message:
        "deliver the tracking entries that are left in the outbox"
    shell:
        "{params.command} > {log} 2>&1"
