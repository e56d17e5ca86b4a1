"""What the workflow puts into the environment of its jobs."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
from refusals import naming

from edgeward.core.errors import UserError
from edgeward.pipeline.environment import export_environment
from edgeward.pipeline.home import LIBRARY
from edgeward.tracking.row_metrics import HEADLINE


@pytest.fixture(autouse=True)
def _restored(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let monkeypatch put back what `export_environment` changes."""
    for key in ("PYTHONPATH", "EDGEWARD_DATA_ROOT", HEADLINE):
        monkeypatch.setenv(key, os.environ.get(key, ""))


def test_library_comes_first_and_once(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PYTHONPATH", "/elsewhere")
    export_environment({}, "host")
    export_environment({}, "host")
    assert os.environ["PYTHONPATH"].split(os.pathsep) == [str(LIBRARY.parent), "/elsewhere"]
    assert os.environ[HEADLINE] == "host"


def test_data_root_of_the_command_line_wins(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("EDGEWARD_DATA_ROOT", "/elsewhere")
    export_environment({"data_root": str(tmp_path)}, "host")
    assert os.environ["EDGEWARD_DATA_ROOT"] == str(tmp_path.resolve())


def test_a_data_root_that_is_no_folder_is_refused(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=naming(f"data_root={tmp_path / 'missing'}")):
        export_environment({"data_root": str(tmp_path / "missing")}, "host")
