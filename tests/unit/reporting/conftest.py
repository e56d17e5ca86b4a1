"""One default report for all tests of the room."""

from __future__ import annotations

import pytest
from reporting_factory import Made, default_sweep, make


@pytest.fixture(scope="session")
def made(tmp_path_factory: pytest.TempPathFactory) -> Made:
    """The default sweep: two models, three recipes, every verdict, one INVALID timing."""
    return make(tmp_path_factory.mktemp("report"), default_sweep())
