"""The agent as a page: the files that a browser is served, which do what `edgeward.profiling.agent` does."""

from __future__ import annotations

import hashlib
from pathlib import Path
from typing import Any

from edgeward.core.plugins import load

READS = ("*.js", "*.html", "*.css")  # served as files: see edgeward.pipeline.closure
FOLDER = Path(__file__).parent


def page_files(engine: dict[str, Any]) -> tuple[dict[str, Path], str]:
    """Return the files of the page by their paths in its address, and the SHA-256, in hex, of those that are ours.

    Parameters
    ----------
    engine : settings of the runtime, with its ``name``.

    Raises
    ------
    UserError
        If the engine's own package is not there.
    """
    part = load("edgeward.runtimes", engine["name"], "page", "config/profile/ (key 'engine.name')")
    ours = {p.name: p for pattern in READS for p in sorted(FOLDER.glob(pattern))}
    ours["engine/agent.js"] = part.AGENT
    digest = hashlib.sha256()
    for name, path in ours.items():
        content = path.read_bytes()
        digest.update(f"{name} {len(content)}\n".encode() + content)
    package = {f"engine/{name}": path for name, path in part.package_files(engine).items()}
    return ours | package, digest.hexdigest()
