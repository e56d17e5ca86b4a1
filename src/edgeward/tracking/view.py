"""What the experiment's page in MLflow offers: a note, and a view that shows the rows."""

from __future__ import annotations

import base64
import json
import zlib

VIEW = "candidates"
QUERY = f"workflowType=machine_learning&viewStateShareKey={VIEW}"  # otherwise MLflow shows what it has for language models
LOCAL = "http://127.0.0.1:5000"  # where ``mlflow ui`` serves
NOTE = f"""One row per candidate (data x model x seed x recipe): filter with
`tags."edgeward.kind" = 'candidate'` and sort by `metrics.verdict_code` (1 pass, 0 inconclusive, -1 fail),
`metrics.rare_recall`, `metrics.latency_p50_ms` ...
or add `?{QUERY}` to the address of its runs.
The stages of a candidate are its child runs; `prepare`, `train` and `report` are runs of their own."""
# MLflow shows metrics by name, then tags: more metrics would push the verdict off the screen.
COLUMNS = (
    *(f"metrics.`{name}`" for name in ("latency_p50_ms", "rare_recall_difference")),
    "tags.`edgeward.verdict`",
)


def address(uri: str, experiment_id: str) -> str:
    """Return the address of the view in a browser: of a server, or of what ``mlflow ui`` serves here."""
    server = uri.rstrip("/") if uri.startswith(("http://", "https://")) else LOCAL
    return f"{server}/#/experiments/{experiment_id}/runs?{QUERY}"


def experiment_tags() -> dict[str, str]:
    """Return the tags that a new experiment gets.

    The view is kept as MLflow's own "share" button keeps one: a tag that holds the page's state,
    as zlib-compressed JSON in base64. A version of MLflow that reads it otherwise ignores it.
    """
    state = {
        "searchFilter": "tags.\"edgeward.kind\" = 'candidate'",
        "orderByKey": "metrics.`verdict_code`",  # pass, inconclusive, fail; then references, which have none
        "orderByAsc": False,
        "selectedColumns": COLUMNS,
        "startTime": "ALL",
        "lifecycleFilter": "Active",
        "datasetsFilter": [],
        "modelVersionFilter": "All Runs",
    }
    packed = base64.b64encode(zlib.compress(json.dumps(state).encode())).decode()
    return {
        "mlflow.note.content": NOTE,
        "mlflow.experimentKind": "custom_model_development",
        f"mlflow.sharedViewState.{VIEW}": f"deflate;{packed}",
    }
