"""One store for all tests that deliver in this process; each test has data and outbox of its own."""

from __future__ import annotations

import itertools
import os
from collections.abc import Callable
from pathlib import Path

import pytest
from tracking_world import World

_numbers = itertools.count()


@pytest.fixture(scope="session", autouse=True)
def _environment() -> None:
    """The environment that the deliverer gives itself."""
    from edgeward.tracking.deliver import ENVIRONMENT

    os.environ.update(ENVIRONMENT)
    os.environ.pop("MLFLOW_RUN_ID", None)


@pytest.fixture(scope="session")
def store_uri(tmp_path_factory: pytest.TempPathFactory) -> str:
    return f"sqlite:///{tmp_path_factory.mktemp('store')}/mlflow.db"


@pytest.fixture
def world(tmp_path: Path) -> World:
    """A working directory whose data set no other test uses."""
    return World(tmp_path, data=f"data{next(_numbers)}")


@pytest.fixture
def deliver(store_uri: str) -> Callable[..., object]:
    """Empty a world's outbox into the shared store; return the deliverer."""
    from edgeward.tracking.loop import Deliverer

    def run(world: World, patience_s: float = 0.0, expect: int = 0) -> Deliverer:
        deliverer = Deliverer(world.outbox, store_uri, "tests", None, patience_s)
        assert deliverer.run() == expect
        return deliverer

    return run
