"""Compare requirements.lock with the public database of known flaws: ``python tools/audit_dependencies.py``.

It needs uv and a network (pip-audit is fetched, and asks the database). Without them it says so and is no failure; a known flaw is.
"""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

LOCK = Path(__file__).resolve().parents[1] / "requirements.lock"
AUDITOR = "pip-audit>=2.10,<3"


def flaws(report: str) -> list[str]:
    """Return a line for each known flaw in pip-audit's report."""
    found = json.loads(report)["dependencies"]
    return [
        f"{entry['name']} {entry['version']}: {flaw['id']}, mended in {', '.join(flaw['fix_versions']) or 'no version yet'}"
        for entry in found
        for flaw in entry.get("vulns", [])
    ]


def main() -> int:
    """Return 1 for a known flaw."""
    uv = shutil.which("uv", path=str(Path(sys.executable).parent)) or shutil.which("uv")
    if uv is None:
        print("dependencies not audited: uv is not installed")
        return 0
    with tempfile.TemporaryDirectory() as folder:
        report = Path(folder) / "report.json"
        command = [uv, "tool", "run", "--from", AUDITOR, "pip-audit", "--requirement", str(LOCK)]
        command += ["--no-deps", "--disable-pip", "--vulnerability-service", "osv"]
        command += ["--format", "json", "--output", str(report)]
        done = subprocess.run(command, capture_output=True, text=True)
        if not report.is_file() or not report.read_text().strip():
            reason = (done.stderr.strip().splitlines() or ["no report"])[-1]
            print(f"dependencies not audited, the database cannot be reached: {reason[:200]}")
            return 0
        found = flaws(report.read_text())
    print("\n".join(found) or "no known flaw in the locked dependencies")
    return bool(found)


if __name__ == "__main__":
    sys.exit(main())
