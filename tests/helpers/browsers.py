"""What tests of pages need: Chromium, onnxruntime-web, and devices that use them."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

import pytest
from shipped import shipped

from edgeward.profiling.config import ProfileConfig

PACKAGE = Path(__file__).parents[2] / ".edgeward/devices/browser/node_modules/onnxruntime-web"
CHROMIUM = next(
    filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None
)
needs_chromium = pytest.mark.skipif(CHROMIUM is None, reason="no Chromium on this machine")
needs_engine = pytest.mark.skipif(
    not PACKAGE.is_dir(), reason="no onnxruntime-web; tools/onnxruntime_web.sh fetches it"
)


def quick_page(name: str, **changed: Any) -> ProfileConfig:
    """Return a shipped device that is a page, as quick as host_quick; `changed` are keys of it or of its transport."""
    values, own = shipped("profile", "host_quick"), shipped("profile", name)
    transport = {**own["transport"], **({"program": CHROMIUM} if name == "browser" else {})}
    transport |= {key: changed.pop(key) for key in tuple(changed) if key in transport}
    engine = {"name": "onnxruntime_web", "package": str(PACKAGE)}
    return ProfileConfig(
        **{**values, "name": name, "transport": transport, "engine": engine, **changed}
    )
