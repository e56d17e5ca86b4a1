"""The tracking store: opening it once, telling its absence from a bad entry, writing to it."""

from __future__ import annotations

import json
import logging
import math
import posixpath
import re
from collections.abc import Iterable, Mapping
from contextlib import nullcontext
from pathlib import Path
from typing import Any

from mlflow.entities import (
    Dataset,
    DatasetInput,
    InputTag,
    LifecycleStage,
    Metric,
    Param,
    Run,
    RunTag,
    ViewType,
)
from mlflow.exceptions import MlflowException
from mlflow.tracking import MlflowClient
from mlflow.utils.validation import (
    MAX_DATASET_DIGEST_SIZE,
    MAX_ENTITY_KEY_LENGTH,
    MAX_PARAM_VAL_LENGTH,
    MAX_TAG_VAL_LENGTH,
)

from edgeward.core.errors import NO_ROOM, UserError
from edgeward.tracking.address import without_credentials
from edgeward.tracking.entry import UsedData
from edgeward.tracking.locks import file_lock
from edgeward.tracking.view import experiment_tags

METRICS_PER_BATCH = 500
TEXTS_PER_BATCH = 40  # of 6,000 and 8,000 characters: below the 1 MB of a request
# Errors that say "this request is wrong": asking again cannot help.
REFUSED = {"INVALID_PARAMETER_VALUE", "BAD_REQUEST", "MALFORMED_REQUEST"}
NO_ROOM_WORDS = ("No space left on device", "database or disk is full", "Disk quota exceeded")
logger = logging.getLogger(__name__)


def init_store(uri: str, experiment: str) -> tuple[MlflowClient, str]:
    """Open the store, making it and the experiment if they are new; return client and id.

    Several processes that open a fresh SQLite store at once ruin it, so for a local file all of it
    happens under a lock. Artifacts of a local store lie in ``mlruns`` beside its file, which is
    where MLflow puts them itself and where ``mlflow ui`` finds them.

    Raises
    ------
    UserError
        If the experiment has been deleted.
    """
    local = Path(uri.removeprefix("sqlite:///")).resolve() if uri.startswith("sqlite:///") else None
    lock = file_lock(local.with_name(f".{local.name}.lock")) if local else nullcontext()
    with lock:
        client = MlflowClient(uri)
        found = client.get_experiment_by_name(experiment)
        if found is None:
            place = str(local.parent / "mlruns" / safe(experiment)) if local else None
            try:
                client.create_experiment(
                    experiment,
                    artifact_location=place,
                    tags=experiment_tags(),
                )
            except MlflowException as error:
                if error.error_code != "RESOURCE_ALREADY_EXISTS":
                    raise
            found = client.get_experiment_by_name(experiment)
        if found.lifecycle_stage != LifecycleStage.ACTIVE:
            raise UserError(
                f"MLflow experiment '{experiment}' in {without_credentials(uri)} is deleted. Restore "
                f"it: mlflow experiments restore --experiment-id {found.experiment_id}"
            )
    return client, found.experiment_id


def refused(error: Exception) -> bool:
    """Tell whether `error` surely lies in the entry, so that delivering it again cannot help."""
    if isinstance(error, MlflowException):
        return error.error_code in REFUSED
    return isinstance(error, UserError)


def full(error: BaseException | None) -> bool:
    """Tell whether a disk is full or read-only behind an error, or behind what caused it."""
    while error is not None:
        if isinstance(error, OSError) and error.errno in NO_ROOM:
            return True
        if any(word in str(error) for word in NO_ROOM_WORDS):
            return True
        error = error.__cause__ or error.__context__
    return False


def safe(name: str) -> str:
    """Return `name` without what MLflow refuses: other characters, and what reads as a path."""
    name = re.sub(r"[^\w\-. :/]", "_", name)[: MAX_ENTITY_KEY_LENGTH - 1]
    if posixpath.normpath(name) != name or name.startswith((".", "/")):
        return f"_{name.replace('/', '_')}"
    return name


def flatten(config: Mapping[str, Any], prefix: str = "") -> dict[str, str]:
    """Return a nested slice as ``{"a.b.c": text}``, keys sorted; lists become JSON.

    Texts longer than MLflow takes are cut, and end with a note that says so.
    """
    flat: dict[str, str] = {}
    for name, value in config.items():
        key = f"{prefix}{name}"
        if isinstance(value, Mapping) and value:
            flat |= flatten(value, f"{key}.")
        else:
            text = value if isinstance(value, str) else json.dumps(value)
            flat[safe(key)] = shorten(text, MAX_PARAM_VAL_LENGTH)
    return dict(sorted(flat.items()))


def shorten(text: str, limit: int) -> str:
    """Cut `text` to `limit` characters, ending in a note if anything was cut."""
    note = f" ... [{len(text)} characters in all]"
    return text if len(text) <= limit else text[: limit - len(note)] + note


def metrics_of(values: Mapping[str, Any], timestamp: float, step: int = 0) -> list[Metric]:
    """Build metrics from finite numbers; `timestamp` in Unix seconds."""
    return [
        Metric(safe(name), float(value), int(timestamp * 1000), step)
        for name, value in sorted(values.items())
        if value is not None and math.isfinite(value)
    ]


def tags_of(values: Mapping[str, Any]) -> dict[str, str]:
    """Return tags as the texts that MLflow takes, without those that are None."""
    items = (
        (safe(k), shorten(str(v), MAX_TAG_VAL_LENGTH)) for k, v in values.items() if v is not None
    )
    return dict(items)


def write(
    client: MlflowClient,
    run_id: str,
    metrics: list[Metric] | None = None,
    params: Mapping[str, str] | None = None,
    tags: Mapping[str, Any] | None = None,
) -> None:
    """Log everything in as few requests as MLflow allows. Logging the same again changes nothing."""
    points = metrics or []
    texts = [Param(k, v) for k, v in (params or {}).items()]
    labels = [RunTag(k, v) for k, v in tags_of(tags or {}).items()]
    size = TEXTS_PER_BATCH
    while points or texts or labels:
        client.log_batch(run_id, points[:METRICS_PER_BATCH], texts[:size], labels[:size])
        points, texts, labels = points[METRICS_PER_BATCH:], texts[size:], labels[size:]


def datasets_of(datasets: Iterable[UsedData]) -> list[DatasetInput]:
    """Build data set inputs from name, digest and context, without touching the data.

    MLflow takes 36 characters of a digest: the first ones; the whole digest is in the source.
    """
    merged: dict[tuple[str, str], list[str]] = {}
    for item in datasets:
        contexts = merged.setdefault((item.name, item.digest), [])
        if item.context not in contexts:
            contexts.append(item.context)
    return [
        DatasetInput(
            Dataset(
                name=name,
                digest=digest[:MAX_DATASET_DIGEST_SIZE],
                source_type="code",
                source=json.dumps({"tags": {"prepared": name, "sha256": digest}}),
            ),
            [InputTag("mlflow.data.context", ", ".join(contexts))],
        )
        for (name, digest), contexts in merged.items()
    ]


def runs_with(client: MlflowClient, experiment_id: str, tag: str, value: str) -> list[Run]:
    """Find the active runs that carry a tag, oldest first."""
    quoted = value.replace("'", "''")
    found = client.search_runs(
        [experiment_id],
        f"tags.\"{tag}\" = '{quoted}'",
        run_view_type=ViewType.ACTIVE_ONLY,
        order_by=["attributes.start_time ASC"],
    )
    return list(found)
