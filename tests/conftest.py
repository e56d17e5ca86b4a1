"""Small shared inputs for all tests."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import settings
from small_data import write_small_prepared, write_small_segmentation

from edgeward.data.store import Prepared, open_prepared

settings.register_profile("edgeward", deadline=None)  # no test fails for a busy machine
settings.load_profile("edgeward")


@pytest.fixture(autouse=True)
def _what_the_workflow_tells_its_jobs_is_taken_back() -> Iterator[None]:
    """Planning puts roots and the headline device into the environment, which the next test of this process must not see."""

    def told() -> dict[str, str]:
        return {k: v for k, v in os.environ.items() if k.startswith("EDGEWARD_")}

    before = told()
    yield
    for name in told().keys() - before.keys():
        del os.environ[name]
    os.environ.update(before)


@pytest.fixture(scope="session")
def small_prepared(tmp_path_factory: pytest.TempPathFactory) -> Prepared:
    """A tiny prepared data set: 240 images of 32x32x3, 3 classes, 2 images per group."""
    return open_prepared(write_small_prepared(tmp_path_factory.mktemp("small")))


@pytest.fixture(scope="session")
def shared_data() -> Path:
    """Real data sets for tests: EDGEWARD_TEST_DATA, or ``shared/data`` beside the checkout."""
    default = Path(__file__).resolve().parents[2] / "shared" / "data"
    root = Path(os.environ.get("EDGEWARD_TEST_DATA", default))
    if not root.is_dir():
        pytest.skip(
            "no real data at hand: set EDGEWARD_TEST_DATA to a folder that holds ham10000/, medmnist/ ..."
        )
    return root


@pytest.fixture(scope="session")
def small_masks(tmp_path_factory: pytest.TempPathFactory) -> Prepared:
    """A tiny segmentation set: 48 images of 32x32x3, classes organ and spot, 2 images per group."""
    return open_prepared(write_small_segmentation(tmp_path_factory.mktemp("masks"), 2))


@pytest.fixture(scope="session")
def small_volumes(tmp_path_factory: pytest.TempPathFactory) -> Prepared:
    """A tiny set of 48 volumes of 16 to 31 voxels a side, one channel, classes organ and spot."""
    return open_prepared(write_small_segmentation(tmp_path_factory.mktemp("volumes"), 3))
