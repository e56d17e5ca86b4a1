"""What assess really writes is what the report reads."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from reporting_factory import CLASSES, PRIOR, Spec, build
from safety_cases import classifier, config

from edgeward.pipeline.paths import ResultPaths
from edgeward.records.safety import Verdict
from edgeward.reporting import stage
from edgeward.reporting.figures.forest import lines_of
from edgeward.reporting.load import load
from edgeward.safety.comparison import assess


@pytest.fixture(scope="module")
def entries(tmp_path_factory: pytest.TempPathFactory) -> list[ResultPaths]:
    """A reference and a candidate that has lost half of df, assessed for real."""
    root = tmp_path_factory.mktemp("contract")
    found = build(root, [Spec(n=300), Spec(n=300, recipe="ptq_int8", verdict="fail")])
    rng = np.random.default_rng(0)
    labels = rng.choice(7, size=3000, p=PRIOR / PRIOR.sum())
    logits = rng.normal(size=(3000, 7))
    logits[np.arange(3000), labels] += 3.0
    worse = logits.copy()
    worse[(labels == 6) & (rng.random(3000) < 0.5), 0] += 9.0
    reference, compressed = (
        classifier(x, labels, np.arange(3000), list(CLASSES), ["vasc", "df"])
        for x in (logits, worse)
    )
    for entry, pair in zip(found, ((reference, None), (compressed, reference)), strict=True):
        safety, verdict = assess(*pair, config(resamples=200))
        safety.write(entry.assess.safety)
        verdict.write(entry.assess.verdict)
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
