"""The pattern by which tests know an error."""

from __future__ import annotations

import re

import pytest
from refusals import naming

SAID = "/tmp/a/smoke.yaml: train.lr is 0.5 ('fast'),\nallowed: [0.1]; see README.md."


@pytest.mark.parametrize(
    ("parts", "there"),
    [
        (("'fast'", "smoke.yaml", "train.lr"), True), ((0.5, "[0.1]"), True), (("README.md",), True),
        ((0,), False), (("lr",), False), (("train",), False), (("allowed", "0.1"), True), (("smoke.yam",), False),
        (("smoke.yaml", "slow"), False), (("train-lr",), False),
    ],
)  # fmt: skip
def test_every_part_has_to_be_there_as_a_whole(parts: tuple[object, ...], there: bool) -> None:
    assert bool(re.search(naming(*parts), SAID)) == there
