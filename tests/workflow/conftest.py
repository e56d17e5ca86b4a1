"""A finished smoke sweep in a copy of the project, shared by all workflow tests."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest
from workspace import Workspace, copy_project


@pytest.fixture(scope="session")
def smoke(tmp_path_factory: pytest.TempPathFactory) -> Workspace:
    """A finished smoke sweep; what it printed is in ``smoke.txt``. Do not change it: take `edited`."""
    workspace = copy_project(tmp_path_factory.mktemp("smoke") / "project")
    printed = workspace.snakemake("--config", "sweep=smoke").stdout
    (workspace.root / "smoke.txt").write_text(printed)
    return workspace


@pytest.fixture
def edited(smoke: Workspace, tmp_path: Path) -> Workspace:
    """A copy of the finished smoke sweep that a test may change."""
    shutil.copytree(smoke.root, tmp_path / "project", symlinks=True)
    return Workspace(tmp_path / "project")
