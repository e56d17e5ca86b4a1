"""The device YAMLs, and settings that cannot work."""

from __future__ import annotations

from typing import Any

import pytest
from pydantic import ValidationError
from shipped import all_of, shipped

from edgeward.profiling.config import ProfileConfig


@pytest.fixture
def host() -> dict[str, Any]:
    return shipped("profile", "host")


@pytest.mark.parametrize("name", all_of("profile"))
def test_shipped_device_is_valid_and_named_after_its_file(name: str) -> None:
    assert ProfileConfig(**shipped("profile", name)).name == name


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"max_duration_s": 0.1}, "below min_duration_s"),
        ({"percentiles": [50]}, "percentiles lacks"),
        ({"deadline_s": 9.0}, "below twice max_duration_s"),
        ({"threads": [0]}, "greater than or equal to 1"),
        ({"threads": []}, "at least 1 item"),
        ({"transport": {"kind": "toaster"}}, "host"),
        ({"wormup": {}}, "Extra inputs"),
    ],
)
def test_impossible_settings_are_refused(
    host: dict[str, Any], change: dict[str, Any], message: str
) -> None:
    with pytest.raises(ValidationError, match=message):
        ProfileConfig(**{**host, **change})
