"""Where the store is, and how to name it in messages."""

from __future__ import annotations

import os
import re
from pathlib import Path


def default_uri() -> str:
    """Return the user's store (MLFLOW_TRACKING_URI), or the one in the working directory.

    The latter is MLflow's own default, so that ``mlflow ui`` shows it.
    """
    return os.environ.get("MLFLOW_TRACKING_URI") or f"sqlite:///{Path.cwd() / 'mlflow.db'}"


def without_credentials(text: str) -> str:
    """Return `text` without the user names and passwords of the URIs in it."""
    return re.sub(r"(?<=://)[^/\s]*@", "", text)
