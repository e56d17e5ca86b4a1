"""How values become what MLflow takes."""

from __future__ import annotations

import math

from hypothesis import given
from hypothesis import strategies as st
from mlflow.entities import Metric, Param, RunTag
from mlflow.exceptions import MlflowException
from mlflow.utils.validation import _validate_batch_log_data, _validate_dataset_inputs

from edgeward.core.errors import UserError
from edgeward.tracking.entry import UsedData
from edgeward.tracking.store import (
    METRICS_PER_BATCH,
    TEXTS_PER_BATCH,
    datasets_of,
    flatten,
    metrics_of,
    refused,
    shorten,
    tags_of,
    write,
)
from edgeward.tracking.view import address, experiment_tags

NAMES = st.one_of(st.text(min_size=1, max_size=8), st.text("/.a -:%", min_size=1, max_size=6))
VALUES = st.one_of(st.none(), st.booleans(), st.integers(), st.text(max_size=50), st.floats())


class Recorder:
    """Takes batches as MLflow does: whatever its own validation refuses is an error."""

    def __init__(self) -> None:
        self.metrics: list[Metric] = []
        self.params: list[Param] = []
        self.tags: list[RunTag] = []

    def log_batch(
        self, run_id: str, metrics: list[Metric], params: list[Param], tags: list[RunTag]
    ) -> None:
        metrics, params, tags = _validate_batch_log_data(metrics, params, tags)
        size = sum(len(p.value.encode()) for p in params) + sum(len(t.value) for t in tags)
        assert size + 200 * len(metrics) < 1e6
        self.metrics += metrics
        self.params += params
        self.tags += tags


def test_nested_slices_become_sorted_dotted_names() -> None:
    config = {
        "train": {"lr": 0.1, "ema": {"decay": None}},
        "seed": 3,
        "axes": [1, {"a": 2}],
        "o": {},
    }
    assert list(flatten(config).items()) == [
        ("axes", '[1, {"a": 2}]'),
        ("o", "{}"),
        ("seed", "3"),
        ("train.ema.decay", "null"),
        ("train.lr", "0.1"),
    ]


def test_long_texts_are_cut_with_a_note() -> None:
    assert shorten("x" * 50, 50) == "x" * 50
    cut = shorten("x" * 51, 50)
    assert len(cut) == 50
    assert cut.endswith(" ... [51 characters in all]")


@given(
    st.dictionaries(
        NAMES, st.one_of(VALUES, st.dictionaries(NAMES, VALUES, max_size=3)), max_size=6
    )
)
def test_mlflow_takes_any_slice(config: dict[str, object]) -> None:
    recorder = Recorder()
    write(
        recorder, "r", params=flatten(config), tags={f"edgeward.{k}": v for k, v in config.items()}
    )
    assert len(recorder.params) == len(flatten(config))
    assert bool(recorder.params) == bool(config)


def test_long_names_are_cut() -> None:
    write(Recorder(), "r", params=flatten({"k" * 400: 1, "/" * 400: 2}))


def test_large_entries_go_in_batches_that_mlflow_takes() -> None:
    recorder = Recorder()
    metrics = [m for step in range(1201) for m in metrics_of({"a": 1.0}, 5.0, step)]
    params = {f"p{i}": "x" * 6000 for i in range(TEXTS_PER_BATCH + 7)}
    tags = {f"t{i}": "y" * 9000 for i in range(TEXTS_PER_BATCH + 3)}
    write(recorder, "r", metrics, params, tags)
    assert [m.step for m in recorder.metrics] == list(range(1201))
    assert len(recorder.params) == TEXTS_PER_BATCH + 7
    assert len(recorder.tags) == TEXTS_PER_BATCH + 3
    assert 2 * METRICS_PER_BATCH < 1201


def test_only_finite_numbers_are_metrics() -> None:
    found = metrics_of({"b": math.nan, "c": math.inf, "d": None, "a": 2}, 1.5, 3)
    assert [(m.key, m.value, m.timestamp, m.step) for m in found] == [("a", 2.0, 1500, 3)]


def test_tags_leave_out_what_is_unknown() -> None:
    assert tags_of({"a": None, "b": 0, "c?": "x"}) == {"b": "0", "c_": "x"}


def test_data_sets_keep_their_whole_digest_and_all_contexts() -> None:
    uses = [
        UsedData("d", "0123456789abcdef" * 4, "train"),
        UsedData("d", "0123456789abcdef" * 4, "validation"),
        UsedData("d", "f" * 64, "calibration"),
    ]
    first, second = datasets_of(uses)
    _validate_dataset_inputs([first, second])
    assert first.tags[0].value == "train, validation"
    assert first.dataset.digest == ("0123456789abcdef" * 4)[:36]
    assert "0123456789abcdef" * 4 in first.dataset.source
    assert second.dataset.digest == "f" * 36


def test_only_what_lies_in_the_entry_is_refused() -> None:
    assert refused(UserError("no entry"))
    assert refused(MlflowException("bad name", error_code=1000))  # INVALID_PARAMETER_VALUE
    assert not refused(MlflowException("server error"))
    assert not refused(ConnectionError("away"))
    assert not refused(ValueError("an answer that is no JSON"))


def test_the_address_of_the_view_is_that_of_the_server_or_of_mlflow_ui_here() -> None:
    shown = "/#/experiments/7/runs?workflowType=machine_learning&viewStateShareKey=candidates"
    assert address("https://mlflow.example.org/", "7") == f"https://mlflow.example.org{shown}"
    assert address("sqlite:////study/mlflow.db", "7") == f"http://127.0.0.1:5000{shown}"
    assert "mlflow.sharedViewState.candidates" in experiment_tags()
