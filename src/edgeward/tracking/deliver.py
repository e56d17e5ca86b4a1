"""Deliver the outbox to MLflow: in order, each entry once, without disturbing measurements.

``python -m edgeward.tracking.deliver --outbox DIR --uri URI --experiment NAME [--follow PID]``
"""

from __future__ import annotations

import argparse
import logging
import os
import signal
import sys
import time
from collections.abc import Sequence
from pathlib import Path

from edgeward.core.errors import UserError
from edgeward.tracking.address import default_uri
from edgeward.tracking.locks import only_deliverer
from edgeward.tracking.loop import Deliverer, remaining
from edgeward.tracking.outbox import pending

# MLflow's own retries would send "create run" twice if an answer got lost, so it gets none: what
# failed is looked up and repeated here. Its usage reports to third parties are switched off.
ENVIRONMENT = {
    "MLFLOW_HTTP_REQUEST_MAX_RETRIES": "0",
    "MLFLOW_HTTP_REQUEST_TIMEOUT": "30",
    "MLFLOW_DISABLE_TELEMETRY": "true",
    "MLFLOW_SUPPRESS_PRINTING_URL_TO_STDOUT": "true",
}
logger = logging.getLogger(__name__)


def _wait_for_other(outbox: Path, patience_s: float) -> int:
    """Wait until the deliverer that holds the outbox has emptied it."""
    left, since = len(pending(outbox)), time.monotonic()
    while left and time.monotonic() - since < patience_s:
        time.sleep(0.2)
        now = len(pending(outbox))
        if now < left:
            since = time.monotonic()
        left = now
    return left


def main(argv: Sequence[str] | None = None) -> int:
    """Run the deliverer; see the module's docstring."""
    parser = argparse.ArgumentParser(prog="edgeward.tracking.deliver", description=__doc__)
    parser.add_argument("--outbox", type=Path, required=True, help="folder of the waiting entries")
    parser.add_argument(
        "--uri", help="tracking URI (MLFLOW_TRACKING_URI, else mlflow.db in this folder)"
    )
    parser.add_argument("--experiment", required=True, help="name of the MLflow experiment")
    parser.add_argument("--follow", type=int, metavar="PID", help="go on until this process ends")
    parser.add_argument(
        "--drain-timeout",
        type=float,
        default=60.0,
        help="give up after so many seconds without progress",
    )
    parser.add_argument(
        "--wait",
        action="store_true",
        help="if another deliverer is at work, wait until it is through",
    )
    parser.add_argument(
        "--init", action="store_true", help="only make the store and the experiment"
    )
    parser.add_argument(
        "--retry-failed", action="store_true", help="put entries that were set aside back first"
    )
    options = parser.parse_args(argv)
    uri = options.uri or default_uri()
    logging.basicConfig(
        level=logging.INFO, format="%(asctime)s %(levelname)s %(message)s", stream=sys.stderr
    )
    logging.getLogger("alembic").setLevel(logging.WARNING)
    if options.follow is not None:
        os.nice(5)  # the stages come first
    os.environ.pop("MLFLOW_RUN_ID", None)  # it would win over the parent of every run
    for name, value in ENVIRONMENT.items():
        os.environ.setdefault(name, value)
    deliverer = Deliverer(
        options.outbox, uri, options.experiment, options.follow, options.drain_timeout
    )
    signal.signal(signal.SIGTERM, deliverer.stop)
    signal.signal(signal.SIGINT, deliverer.stop)
    try:
        if options.init:
            deliverer.open()
            return 0
        deliverer.end_after_kill()
        with only_deliverer(options.outbox, deliverer.wait_for) as alone:
            if not alone:
                if not options.wait and options.follow is None:
                    logger.info("another deliverer is at work on %s", options.outbox)
                    return 0
                left = _wait_for_other(options.outbox, options.drain_timeout)
                if left:
                    logger.error("%s", remaining(options.outbox, uri, left))
                return 1 if left else 0
            if options.retry_failed:
                for path in (options.outbox / "failed").glob("*.json"):
                    path.replace(options.outbox / path.name)
            return deliverer.run()
    except UserError as error:
        logger.error("%s", error)
        return 1


if __name__ == "__main__":
    sys.exit(main())
