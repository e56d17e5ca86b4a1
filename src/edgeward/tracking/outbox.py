"""The outbox: what stages leave for MLflow, without importing MLflow.

Layout of the folder::

    00001763810000000000000-<entry id>.json   one finished stage, waiting for delivery
    live/00001763810000000000000-<curve id>.jsonl   one curve of a running stage
    failed/    entries that can never be delivered, each with a .reason.txt
    quiet.lock deliver.lock sequence study.json

File names begin with a sequence number that only grows, so their alphabetical order is the order in
which they were posted.
"""

from __future__ import annotations

import os
from dataclasses import asdict
from pathlib import Path

from edgeward.core.io import digest, write_json
from edgeward.tracking.entry import FORMAT, StageEntry
from edgeward.tracking.live import LiveCurve, curves, sequenced
from edgeward.tracking.locks import quiet
from edgeward.tracking.row_metrics import RowMetrics, gather

__all__ = ["LiveCurve", "StageEntry", "pending", "post", "quiet"]


def post(outbox: Path, entry: StageEntry) -> Path:
    """Write one entry, whole or not at all; return its file.

    What the row of the candidate needs (`edgeward.tracking.row_metrics`) is read from the stage's
    outputs now, since they may be gone or replaced by the time of delivery.
    """
    outbox = Path(outbox)
    finished = entry.status == "FINISHED"
    row = gather(entry.stage, entry.folder, entry.device) if finished else RowMetrics()
    config = digest(entry.config)
    own = [c for c in curves(outbox) if c.key == entry.key and c.config == config]
    content = asdict(entry) | {
        "format": FORMAT,
        "key": entry.key,
        "folder": os.path.relpath(entry.folder, outbox),
        "artifacts": [os.path.relpath(path, outbox) for path in entry.artifacts],
        "curve": own[-1].curve if own else None,
        "row": asdict(row),
    }
    with sequenced(outbox) as number:
        path = outbox / f"{number:024d}-{entry.entry_id}.json"
        write_json(path, content | {"sequence": number})
    return path


def pending(outbox: Path) -> list[Path]:
    """List the entries that wait for delivery, oldest first."""
    return sorted(p for p in Path(outbox).glob("[0-9]*.json"))
