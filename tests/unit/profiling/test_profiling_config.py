"""The device YAMLs, and settings that cannot work."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import yaml
from pydantic import ValidationError

from edgeward.pipeline.compose import compose, names
from edgeward.profiling.config import ProfileConfig

CONFIG = Path(__file__).parents[3] / "config"


@pytest.fixture
def host() -> dict[str, Any]:
    return yaml.safe_load((CONFIG / "profile" / "host.yaml").read_text())


@pytest.mark.parametrize("name", names((CONFIG,), "profile"))
def test_shipped_device_is_valid_and_named_after_its_file(name: str) -> None:
    values = compose((CONFIG,), {"device": name})["profile"]
    assert ProfileConfig(**values).name == name


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


def test_every_key_is_required(host: dict[str, Any]) -> None:
    for key in host:
        with pytest.raises(ValidationError, match=key):
            ProfileConfig(**{k: v for k, v in host.items() if k != key})
