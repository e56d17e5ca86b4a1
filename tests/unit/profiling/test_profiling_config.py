"""The device YAMLs, and settings that cannot work."""

from __future__ import annotations

from typing import Any

import pytest
from pydantic import ValidationError
from refusals import naming
from shipped import all_of, shipped

from edgeward.profiling.config import ProfileConfig


@pytest.fixture
def host() -> dict[str, Any]:
    return shipped("profile", "host")


@pytest.mark.parametrize("name", all_of("profile"))
def test_shipped_device_is_valid_and_named_after_its_file(name: str) -> None:
    assert ProfileConfig(**shipped("profile", name)).name == name


@pytest.mark.parametrize(
    ("change", "parts"),
    [
        ({"max_duration_s": 0.1}, ("max_duration_s", 0.1, "min_duration_s")),
        ({"percentiles": [50]}, ("percentiles", 90.0)),
        ({"deadline_s": 9.0}, ("deadline_s", 9.0, "max_duration_s")),
        ({"threads": [0]}, ("threads.0.constrained-int", 1)),
        ({"threads": []}, ("threads", 1)),
        ({"transport": {"kind": "toaster"}}, ("transport", "'toaster'", "'host'")),
        ({"wormup": {}}, ("wormup",)),
    ],
)
def test_impossible_settings_are_refused(
    host: dict[str, Any], change: dict[str, Any], parts: tuple[object, ...]
) -> None:
    with pytest.raises(ValidationError, match=naming(*parts)):
        ProfileConfig(**{**host, **change})
