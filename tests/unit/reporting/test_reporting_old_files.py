"""Files that stages wrote before they named their schema still open, with every number in its place."""

from __future__ import annotations

from pathlib import Path

import pytest
from reporting_factory import Spec, build

from edgeward.core.io import read_json, write_json
from edgeward.records.scaling import Build
from edgeward.reporting.load import load
from edgeward.reporting.sweep import Sweep

OLD = Path(__file__).parent / "old"


@pytest.mark.parametrize("name", ["multiclass", "segmentation"])
def test_a_candidate_of_older_files(tmp_path: Path, name: str) -> None:
    old = read_json(OLD / f"{name}.json")
    (paths,) = build(tmp_path, [Spec(recipe="ptq_int8", n=60)])
    for path, content in (
        (paths.prepare.card, old["card"]),
        (paths.compress.record, old["recipe"]),
        (paths.export.parity, old["parity"]),
        (paths.assess.safety, old["safety"]),
        (paths.assess.verdict, old["verdict"]),
    ):
        write_json(path, content)
    found = load(paths)
    safety = old["safety"]
    assert found.task.name == name
    later_too = ("set_size", "selective_risk")
    for metric in (m for m in found.task.metrics if m.name not in later_too):
        assert found.metric(metric.name).content() == safety[metric.name]
        assert found.difference(metric.name).content() == old["verdict"]["differences"][metric.name]
    for row, before in zip(found.safety.per_class, safety["per_class"], strict=True):
        assert (row.name, row.n, row.rare) == (before["class"], before["n"], before["rare"])
        later = ("sensitivity_at_specificity", "specificity_at_sensitivity", "set_coverage")
        for metric in (m for m in found.task.class_metrics if m.name not in later):
            named = "sensitivity" if metric.name == "recall" else metric.name
            assert row.metrics[metric.name].content() == before[named]
    assert found.safety.reliability["all"].content() == safety["reliability"]
    assert [e.content() for e in found.verdict.endpoints] == old["verdict"]["endpoints"]
    if name == "multiclass":
        assert found.safety.facts["temperature"] == safety["temperature"]
        assert found.counts == {"rare": found.metric("rare_recall").n}
        assert found.parity.engine == {"onnxruntime": old["parity"]["onnxruntime"]}
    else:
        assert found.safety.reliability["boundary"].content() == safety["boundary_reliability"]
        assert found.safety.per_class[1].counts["lesions"] == safety["per_class"][1]["lesions"]
    assert Sweep([found]).reference(found) is None


def test_an_untrained_network_of_an_older_file(tmp_path: Path) -> None:
    content = {"schema": "edgeward-scaling/1", "model": "a", "stream": "ssm", "size": 64,
               "status": "refused", "reason": "too small"}  # fmt: skip
    write_json(tmp_path / "build.json", content)
    assert Build.read(tmp_path / "build.json").family == "ssm"
