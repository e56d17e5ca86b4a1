"""What assess really writes is what the report reads."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from reporting_factory import CLASSES, PRIOR, Spec, build
from shipped import shipped

from edgeward.core.io import write_json
from edgeward.pipeline.paths import ResultPaths
from edgeward.records.safety import Verdict
from edgeward.reporting import stage
from edgeward.reporting.figures.forest import lines_of
from edgeward.reporting.load import load
from edgeward.safety.config import SafetyConfig
from edgeward.safety.stage import assess
from edgeward.tasks.multiclass.study import Sample, evaluate


@pytest.fixture(scope="module")
def entries(tmp_path_factory: pytest.TempPathFactory) -> list[ResultPaths]:
    """A reference and a candidate that has lost half of df, assessed for real."""
    root = tmp_path_factory.mktemp("contract")
    found = build(root, [Spec(n=300), Spec(n=300, recipe="ptq_int8", verdict="fail")])
    values = shipped("safety", "default") | {"resamples": 200}
    cfg = SafetyConfig(**{key: values[key] for key in SafetyConfig.model_fields})
    rng = np.random.default_rng(0)
    labels = rng.choice(7, size=3000, p=PRIOR / PRIOR.sum())
    sample = Sample(labels, np.arange(3000), list(CLASSES), ["vasc", "df"])
    logits = rng.normal(size=(3000, 7))
    logits[np.arange(3000), labels] += 3.0
    worse = logits.copy()
    worse[(labels == 6) & (rng.random(3000) < 0.5), 0] += 9.0
    reference = evaluate(logits, sample, np.zeros(7), 1.0, cfg)
    compressed = evaluate(worse, sample, np.zeros(7), 1.0, cfg)
    for entry, pair in zip(found, ((reference, None), (compressed, reference)), strict=True):
        safety, verdict = assess(*pair, cfg)
        n = {"test": 3000, "val": 0, "groups": 3000}
        more = {"logit_shift": [0.0] * 7, "test_sha256": "d" * 64}
        write_json(entry.assess.safety, {"n": n, **safety, **more})
        write_json(entry.assess.verdict, verdict)
    return found


def test_every_class_has_a_difference_and_every_rare_class_an_endpoint(
    entries: list[ResultPaths],
) -> None:
    candidate = load(entries[1])
    lines = dict(zip(CLASSES, lines_of(candidate), strict=True))
    assert all(line.value.bounded for line in lines.values())
    margins = {name: line.endpoint.margin for name, line in lines.items() if line.endpoint}
    assert margins == {"vasc": 0.05, "df": 0.05}
    for name in ("auc_macro", "balanced_accuracy", "rare_recall", "ece"):
        assert candidate.metric(name).bounded
        assert candidate.difference(name).bounded


def test_the_report_of_a_real_assessment(entries: list[ResultPaths], tmp_path: Path) -> None:
    metrics = stage.run({"name": "contract"}, entries, out=tmp_path)
    assert metrics["fail"] == 1
    html = (tmp_path / "index.html").read_text()
    assert "The one compressed candidate must not replace its reference" in html
    verdict = Verdict.read(entries[1].assess.verdict)
    endpoint = next(e for e in verdict.endpoints if e.class_name == "df")
    assert f"Recall of df: {endpoint.reference.estimate:.3f} → " in html
    assert "not available" not in (tmp_path / "figures" / "forest.svg").read_text()
