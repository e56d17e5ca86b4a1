"""What becomes of runs that a later run of the same stage has replaced: kept for a while, then removed for good."""

from __future__ import annotations

import logging
import os
import subprocess
import sys
import time

from mlflow.entities import ViewType
from mlflow.tracking import MlflowClient

from edgeward.core.errors import UserError
from edgeward.tracking.experiment import STUDY, ExperimentStore

KEEP = "EDGEWARD_KEEP_SUPERSEDED_DAYS"
DEFAULT_DAYS = 30.0
SUPERSEDED_AT = "edgeward.superseded_at"  # Unix seconds
logger = logging.getLogger(__name__)


def keep_days() -> float:
    """Return for how many days replaced runs can be restored.

    Raises
    ------
    UserError
        If the environment names no number >= 0.
    """
    text = os.environ.get(KEEP, str(DEFAULT_DAYS))
    try:
        days = float(text)
    except ValueError:
        days = -1.0
    if not days >= 0:
        raise UserError(f"{KEEP}={text}: must be a number of days, 0 or more ('inf': for ever).")
    return days


def supersede(client: MlflowClient, run_id: str) -> None:
    """Delete a run as MLflow deletes: it can be restored."""
    client.set_tag(run_id, SUPERSEDED_AT, str(int(time.time())))
    client.delete_run(run_id)


def tidy(store: ExperimentStore, uri: str, days: float) -> int:
    """Remove, with their artifacts, the runs of this study that were replaced so long ago; return their number.

    Only of a store that is a file here: `mlflow gc` needs the database itself, so of a server it is its keeper's to do.
    """
    if not uri.startswith("sqlite:///"):
        return 0
    found = store.client.search_runs(
        [store.experiment_id],
        f"tags.\"{STUDY}\" = '{store.study}'",
        run_view_type=ViewType.DELETED_ONLY,
        max_results=1000,
    )
    before = time.time() - 86400 * days
    old = [r.info.run_id for r in found if float(r.data.tags.get(SUPERSEDED_AT, "inf")) <= before]
    if old:
        command = [sys.executable, "-m", "mlflow", "gc", "--backend-store-uri", uri]
        told = os.environ | {"MLFLOW_TRACKING_URI": uri}
        done = subprocess.run([*command, "--run-ids", ",".join(old)], env=told, capture_output=True)
        if done.returncode:
            logger.warning("mlflow gc failed: %s", done.stderr.decode(errors="replace")[-500:])
            return 0
        logger.info("%d runs that were replaced more than %g days ago are removed", len(old), days)
    return len(old)
