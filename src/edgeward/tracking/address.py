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
    """Return `text` without the user names, passwords and secrets in the queries of the URIs in it."""
    return _SECRET.sub(r"\1...", _USER.sub("", text))


# user:password@, where the password may hold / and ?, but host:port/.. is none.
_USER = re.compile(r"(?<=://)(?:[^/\s]*@|[^/\s:@]*:(?!\d+[/?\s])[^\s'\"]*@)")
_SECRET = re.compile(
    r"([?&;][\w-]*(?:token|password|passwd|secret|key|sig|signature)[\w-]*=)[^\s&;'\"]+",
    re.IGNORECASE,
)
