"""Cross-validated data: each seed reads its fold, and the pool judges recipes by the cases of all of them."""

from __future__ import annotations

from pathlib import Path

import pytest
from workspace import copy_project

from edgeward.data.store import open_prepared
from edgeward.pipeline.paths import Assess, Decide, Fold, Pool, Prepare
from edgeward.records.safety import Pooled, Safety, Verdict

pytestmark = pytest.mark.workflow


def test_folds_from_the_data_to_the_verdict_on_a_recipe(tmp_path: Path) -> None:
    clone = copy_project(tmp_path)
    root = clone.root
    (root / "config/data/mine.yaml").write_text(
        "defaults: [phantom_tiny, _self_]\nsplit: {kind: folds, folds: 3}\ncalibration: {n: 32}\n"
    )
    (root / "config/sweeps/mine.yaml").write_text(
        "description: Folds\ndata: [mine]\nmodel: [dscnn]\nrecipe: [fp32, ptq_int8]\nseed: [0, 1]\n"
        "device: [host_quick]\ndecide_on: [host_quick]\n"
        'overrides: ["train=smoke", "safety.resamples=200"]\n'
    )
    mine, record = ("--config", "sweep=mine"), Pool("mine", "mine", root=root).record
    clone.snakemake(str(record.relative_to(root)), *mine)
    pooled = Pooled.read(record)
    tested = [
        Safety.read(Assess("mine", "dscnn", seed, "fp32", root=root).safety) for seed in (0, 1)
    ]
    assert pooled.n["test"] == sum(found.n["test"] for found in tested)
    (row,) = pooled.verdicts
    assert (row.model, row.recipe) == ("dscnn", "ptq_int8")
    assert row.verdict.bootstrap.groups == pooled.n["groups"]
    assert {e.class_name for e in row.verdict.endpoints} > {"mel", "bcc", "akiec"}
    whole = open_prepared(Prepare("mine", root=root).folder)
    for seed, found in enumerate(tested):
        data = open_prepared(Fold("mine", seed, root=root).folder)
        assert found.n["test"] == len(data.indices("test"))
        assert {*whole.splits[data.indices("test")]} == {f"fold{seed}"}
    there = Decide("mine", "dscnn", 0, "ptq_int8", "host_quick", root=root)
    clone.snakemake(str(there.verdict.relative_to(root)), *mine)
    decided = Safety.read(there.safety)
    assert decided.on is not None
    assert decided.on.agreement.estimate == 1, "the same engine on the same machine"
    assert decided.n["test"] == tested[0].n["test"]
    host = Assess("mine", "dscnn", 0, "ptq_int8", root=root).verdict
    assert Verdict.read(there.verdict).verdict == Verdict.read(host).verdict
    left = clone.planned(*mine)
    assert set(left) == {"ceilings", "decide", "interleave", "profile", "report"}
    assert left["decide"] == 2  # of the other seed
