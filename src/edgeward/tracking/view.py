"""What the experiment's page in MLflow offers: a note, and a view that shows the rows."""

from __future__ import annotations

import base64
import json
import zlib

VIEW = "candidates"
NOTE = f"""One row per candidate (data x model x seed x recipe): filter with
`tags."edgeward.kind" = 'candidate'` and sort by `metrics.rare_recall`, `metrics.latency_p50_ms` ...
or add `?viewStateShareKey={VIEW}` to the address of this page.
The stages of a candidate are its child runs; `prepare`, `train` and `report` are runs of their own."""
COLUMNS = (
    *(f"tags.`edgeward.{name}`" for name in ("data", "verdict")),
    *("metrics.`rare_recall`", "metrics.`rare_recall_difference`", "metrics.`auc_macro`"),
    *("metrics.`ece`", "metrics.`latency_p50_ms`", "metrics.`peak_memory_mb`", "metrics.`file_mb`"),
)


def experiment_tags() -> dict[str, str]:
    """Return the tags that a new experiment gets.

    The view is kept as MLflow's own "share" button keeps one: a tag that holds the page's state,
    as zlib-compressed JSON in base64. A version of MLflow that reads it otherwise ignores it.
    """
    state = {
        "searchFilter": "tags.\"edgeward.kind\" = 'candidate'",
        "orderByKey": "metrics.`rare_recall`",
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
