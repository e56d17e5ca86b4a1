"""What the user is told when a config, a sweep or the command line is wrong: before any job starts."""

from __future__ import annotations

from pathlib import Path

import pytest
from workspace import Workspace, copy_project

pytestmark = pytest.mark.workflow


@pytest.fixture
def project(tmp_path: Path) -> Workspace:
    return copy_project(tmp_path / "project")


@pytest.mark.parametrize(
    ("args", "file", "old", "new", "said"),
    [
        (
            [],
            "config/data/phantom.yaml",
            "image_size:",
            "imagesize:",
            ["data.imagesize", "'data.image_size'", "config/data/phantom.yaml"],
        ),
        (
            [],
            "config/sweeps/default.yaml",
            "recipe:",
            "recipes:",
            ["'recipes'", "'recipe'", "config/sweeps/default.yaml"],
        ),
        (
            [],
            "config/sweeps/default.yaml",
            "mobileone_s0,",
            "mobilone_s0,",
            ["mobilone_s0", "'mobileone_s0'"],
        ),
        (["--config", "swep=smoke"], None, "", "", ["swep", "'sweep'"]),
        (["--config", "sweep=smok"], None, "", "", ["smok", "'smoke'"]),
        (["--config", 'overrides=["train.lrr=1"]'], None, "", "", ["train.lrr", "'train.lr'"]),
        (["--config", 'overrides=["train.epochs=-3"]'], None, "", "", ["train.epochs", "-3"]),
    ],
)
def test_mistakes_fail_when_the_dag_is_built(
    project: Workspace, args: list[str], file: str | None, old: str, new: str, said: list[str]
) -> None:
    if file:
        project.edit(file, old, new)
    done = project.snakemake("-n", *args, check=False)
    assert done.returncode != 0
    for word in said:
        assert word in done.stdout
    assert "Traceback" not in done.stdout
    assert not (project.root / "results").exists()


def test_an_interruption_that_planning_swallows_still_ends_the_run(project: Workspace) -> None:
    """As one that falls into a callback of C, where no exception can leave."""
    with (project.root / "Snakefile").open("a") as handle:
        handle.write(
            "\nimport signal\n\ntry:\n    signal.raise_signal(signal.SIGINT)\nexcept KeyboardInterrupt:\n    pass\n"
        )
    done = project.snakemake(
        "--config", "sweep=smoke", "--", "results/phantom_tiny/prepare/card.json", check=False
    )
    assert done.returncode != 0
    assert "SIGINT: the running jobs are ended" in done.stdout, done.stdout
    assert not (project.root / "results/phantom_tiny").exists()
