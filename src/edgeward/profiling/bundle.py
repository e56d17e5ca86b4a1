"""The agent as one file."""

from __future__ import annotations

import hashlib
import io
import zipfile
from functools import cache
from pathlib import Path

from edgeward.core.plugins import load
from edgeward.runtimes import agent as shared

READS = ("agent/*.py",)  # read as files: see edgeward.pipeline.closure
AGENT = Path(__file__).parent / "agent"
START = "import sys\nfrom edgeward.profiling.agent.__main__ import main\nsys.exit(main())\n"
EPOCH = (1980, 1, 1, 0, 0, 0)  # the earliest date that a zip file can hold


@cache
def agent_file(engine: str) -> tuple[bytes, str]:
    """Return the agent as a zip application (PEP 441) and the SHA-256 of that, in hex.

    ``python <file>`` starts it, whatever the file is called. It holds the packages of the project as far as the agent
    imports them, which is itself and one engine. The same sources give the same bytes: entries are sorted, undated and
    not compressed.

    Parameters
    ----------
    engine : name of the runtime.
    """
    part = load("edgeward.runtimes", engine, "agent", "config/profile/ (key 'engine.name')")
    modules = {
        **{f"profiling.agent.{path.stem}": path for path in AGENT.glob("*.py")},
        **{m.__name__.partition(".")[2]: Path(str(m.__file__)) for m in (shared, part)},
    }
    entries = {
        f"edgeward/{name.replace('.', '/')}.py": p.read_text() for name, p in modules.items()
    }
    for name in [*entries]:
        for folder in list(Path(name).parents)[:-1]:
            entries.setdefault(f"{folder}/__init__.py", "")
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
