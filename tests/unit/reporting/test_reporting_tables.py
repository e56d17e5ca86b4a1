"""Tables for others: the three formats agree, and LaTeX is escaped."""

from __future__ import annotations

import csv
import re

import pandas as pd
import pyarrow.parquet as pq
import pytest
from html_page import Page
from reporting_factory import Made

from edgeward.records.base import Interval
from edgeward.reporting import tables


def test_every_table_is_there_in_three_formats_and_linked(made: Made) -> None:
    files = {path.name for path in (made.out / "tables").iterdir()}
    names = {name.split(".")[0] for name in files}
    assert {
        "comparison",
        "classes",
        "confusion",
        "endpoints",
        "timings",
        "operators",
        "data",
    } <= names
    assert files == {f"{name}.{ending}" for name in names for ending in ("csv", "tex", "parquet")}
    linked = set(Page((made.out / "index.html").read_text()).links)
    assert {f"tables/{name}" for name in files} <= linked


@pytest.mark.parametrize("name", ["comparison", "classes", "endpoints", "operators"])
def test_csv_and_parquet_hold_the_same_numbers(made: Made, name: str) -> None:
    parquet = pq.read_table(made.out / "tables" / f"{name}.parquet").to_pandas()
    text = pd.read_csv(made.out / "tables" / f"{name}.csv")
    assert list(parquet.columns) == list(text.columns)
    pd.testing.assert_frame_equal(
        parquet.astype(object).where(parquet.notna(), None),
        text.astype(object).where(text.notna(), None),
        check_dtype=False,
    )


def test_the_classes_are_those_of_the_records(made: Made) -> None:
    with (made.out / "tables" / "classes.csv").open(newline="") as handle:
        rows = list(csv.DictReader(handle))
    assert len(rows) == 7 * len(made.entries)
    assert {row["class"] for row in rows if row["rare"] == "True"} == {"df", "vasc"}


def test_latex_has_an_interval_in_a_cell_and_what_all_rows_share_above() -> None:
    lines: tables.Table = [
        {"data": "a_b", "model": "m & n", "recall": Interval(estimate=0.5, low=0.4, high=0.6)},
        {"data": "a_b", "model": "o%\n$p$", "recall": Interval(estimate=0.25, low=-0.1, high=0.5)},
    ]
    text = tables.latex("classes", lines)
    assert "in every row: data a_b" in text.splitlines()[0]
    assert r"m \& n & 0.500 [0.400, 0.600] \\" in text
    assert "$-$0.100" in text
    assert r"o\%" in text
    assert r"\$p\$" in text
    assert re.search(r"\\begin\{tabular\}\{lr\}\s+\\toprule\s+model & recall", text)


def test_a_printed_comparison_is_narrower(made: Made) -> None:
    head = (made.out / "tables" / "comparison.tex").read_text().splitlines()[4]
    assert "rare recall" in head
    assert "layout changes" not in head
    assert "layout_changes" in (made.out / "tables" / "comparison.csv").read_text()
