"""A finished smoke sweep in a copy of the project, shared by all workflow tests."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest
from workspace import Workspace, copy_project


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Give a whole sweep on a busy machine time; a test that hangs still ends. What shares a finished sweep runs in one process."""
    for item in items:
        if item.path.is_relative_to(Path(__file__).parent):
            item.add_marker(pytest.mark.timeout(2400))
            shares = "smoke" in getattr(item, "fixturenames", ())
            item.add_marker(pytest.mark.xdist_group("smoke" if shares else item.path.stem))


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
