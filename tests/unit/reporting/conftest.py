"""One default report for all tests of the room."""

from __future__ import annotations

from collections.abc import Iterator
from functools import partial

import pytest
from reporting_factory import Made, default_sweep, make

from edgeward.records.provenance import Commit
from edgeward.reporting import provenance

NOW = 1_764_374_400  # 2025-11-29


@pytest.fixture(scope="session", autouse=True)
def of_one_day_and_commit() -> Iterator[None]:
    """Reports of one run of the tests differ by nothing else, whatever is committed and whenever it ends."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("SOURCE_DATE_EPOCH", str(NOW))
        fixed = Commit(commit="0123456789abcdef" * 2 + "01234567", dirty=False)
        patch.setattr(provenance, "commit", partial(_fixed, fixed))
        yield


def _fixed(commit: Commit, _: object) -> Commit:
    return commit


@pytest.fixture(scope="session")
def made(tmp_path_factory: pytest.TempPathFactory) -> Made:
    """The default sweep: two models, three recipes, every verdict, one INVALID timing."""
    return make(tmp_path_factory.mktemp("report"), default_sweep())
