"""The audit of dependencies: known flaws are told, and a database that cannot be reached is no failure."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

TOOL = Path(__file__).resolve().parents[3] / "tools" / "audit_dependencies.py"


def audited(tmp_path: Path, uv: str) -> subprocess.CompletedProcess[str]:
    """Run the tool with a program of this name in the place of uv."""
    (tmp_path / "bin").mkdir()
    stand_in = tmp_path / "bin" / "uv"
    stand_in.write_text(f"#!{sys.executable}\n{uv}")
    stand_in.chmod(0o755)
    # A Python without uv beside it, so that the first one on PATH is taken.
    python = tmp_path / "python"
    python.symlink_to(sys.executable)
    environment = os.environ | {"PATH": str(stand_in.parent)}
    return subprocess.run([str(python), str(TOOL)], env=environment, capture_output=True, text=True)


def test_known_flaws_are_told(tmp_path: Path) -> None:
    flaw = {"id": "PYSEC-1", "fix_versions": ["2.0"]}
    report = {"dependencies": [{"name": "safe", "version": "1", "vulns": []}, {"name": "bad", "version": "1.0", "vulns": [flaw]}]}  # fmt: skip
    uv = f"import sys\nopen(sys.argv[sys.argv.index('--output') + 1], 'w').write({json.dumps(report)!r})\nsys.exit(1)\n"
    done = audited(tmp_path, uv)
    assert done.returncode == 1
    assert done.stdout.split("\n")[0] == "bad 1.0: PYSEC-1, mended in 2.0"
    assert "safe" not in done.stdout


def test_a_database_that_cannot_be_reached_is_no_failure(tmp_path: Path) -> None:
    done = audited(tmp_path, "import sys\nsys.exit('no route to host')\n")
    assert done.returncode == 0
    assert "not audited" in done.stdout
    assert "no route to host" in done.stdout
