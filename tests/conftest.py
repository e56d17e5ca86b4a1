"""Small shared inputs for all tests."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
from small_data import write_small_prepared

from edgeward.data.store import Prepared, open_prepared


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
