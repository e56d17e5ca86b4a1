"""The agent as one file."""

from __future__ import annotations

import hashlib
import io
import zipfile
from functools import cache
from pathlib import Path

READS = ("agent/*.py",)  # read as files: see edgeward.pipeline.closure
AGENT = Path(__file__).parent / "agent"
PACKAGE = "edgeward_agent"
START = f"import sys\nfrom {PACKAGE}.__main__ import main\nsys.exit(main())\n"
EPOCH = (1980, 1, 1, 0, 0, 0)  # the earliest date that a zip file can hold


@cache
def agent_file() -> tuple[bytes, str]:
    """Return the agent as a zip application (PEP 441) and the SHA-256 of that, in hex.

    ``python <file>`` starts it, whatever the file is called. The same sources give the same bytes:
    entries are sorted, undated and not compressed.
    """
    entries = {f"{PACKAGE}/{path.name}": path.read_text() for path in AGENT.glob("*.py")}
    entries["__main__.py"] = START
    target = io.BytesIO()
    with zipfile.ZipFile(target, "w", zipfile.ZIP_STORED) as archive:
        for name, text in sorted(entries.items()):
            info = zipfile.ZipInfo(name, EPOCH)
            info.create_system = 3  # Unix, also where another system packs it
            info.external_attr = 0o644 << 16
            archive.writestr(info, text)
    content = target.getvalue()
    return content, hashlib.sha256(content).hexdigest()
