"""Latency against input size: crossovers in closed form, refusals, INVALID timings, the section."""

from __future__ import annotations

import csv
from pathlib import Path
from typing import Any

import pytest
from refusals import naming
from reporting_factory import Spec, around, build, explanation, profile, setting

from edgeward.core.errors import UserError
from edgeward.core.io import read_json, write_json
from edgeward.records.scaling import Build, Unmeasured
from edgeward.reporting import ranks, stage
from edgeward.reporting.load import load_all
from edgeward.reporting.scaling import Cell, crossovers, exponent, lines, load

SIZES = (64, 128, 256, 512)


def write(
    root: Path,
    model: str,
    family: str,
    curve: dict[int, float | None],
    spread: float = 0.01,
    invalid: tuple[int, ...] = (),
) -> list[tuple[Path, Path]]:
    """Write what `scaling` leaves of a model: size -> p50 in ms, or None where it is refused."""
    pairs = []
    for size, p50 in curve.items():
        at = root / model / str(size)
        built = Build(
            format=Build.FORMAT, model=model, family=family, size=size, status="exported",
            reason=None,
        )  # fmt: skip
        if p50 is None:
            reason = f"model '{model}' cannot take 3x{size}x{size} <images>"
            built.model_copy(update={"status": "refused", "reason": reason}).write(
                at / "build.json"
            )
            unmeasured = Unmeasured(format=Unmeasured.FORMAT, status="refused", reason=reason)
            unmeasured.write(at / "host.json")
        else:
            built.write(at / "build.json")
            one = setting(
                p50,
                resolution=[size, size],
                load_ms=5.0,
                peak_memory_mb=p50 * 2,
                valid=size not in invalid,
            )
            one["latency_ms"]["p50"] |= around(p50, p50 * spread)
            found = explanation(Spec(macs=size * size, bytes_moved=size * 1000), p50)
            content = profile("host", [one], explanation=found)
            content["model"]["macs"] = size * size
            write_json(at / "host.json", content)
        pairs.append((at / "build.json", at / "host.json"))
    return pairs


def law(factor: float, power: float) -> dict[int, float | None]:
    """Latency ~ factor * pixels^power."""
    return {size: factor * (size / 64) ** (2 * power) for size in SIZES}


def cells(root: Path, **curves: Any) -> list[Cell]:
    pairs = []
    for model, (stream, curve, *options) in curves.items():
        pairs += write(root, model, stream, curve, *options)
    return load(pairs)


def test_power_laws_cross_where_they_must(tmp_path: Path) -> None:
    # (s / 64)^4 = 8 (s / 64)^2 at s = 64 sqrt(8): the interpolation in logarithms is exact.
    found = crossovers(cells(tmp_path, attention=("hybrid", law(1, 2)), scan=("ssm", law(8, 1))))
    assert len(found) == 1
    assert (found[0].below, found[0].above) == ("attention", "scan")
    assert found[0].between == (128, 256)
    assert found[0].size == pytest.approx(64 * 8**0.5)
    assert found[0].ms == pytest.approx(64)
    assert found[0].shown


def test_order_of_the_models_does_not_matter(tmp_path: Path) -> None:
    some = cells(tmp_path, a=("cnn", law(1, 2)), b=("ssm", law(8, 1)), c=("hybrid", law(3, 1.5)))
    assert crossovers(some) == crossovers(some[::-1])
    assert len(crossovers(some)) == 3


def test_equal_latency_at_a_measured_size_is_one_crossover(tmp_path: Path) -> None:
    found = crossovers(cells(tmp_path, a=("cnn", law(1, 2)), b=("ssm", law(4, 1))))
    assert [(c.below, c.above, c.between) for c in found] == [("a", "b", (64, 256))]
    assert found[0].size == pytest.approx(128)


def test_parallel_lines_do_not_cross(tmp_path: Path) -> None:
    assert crossovers(cells(tmp_path, a=("cnn", law(1, 1)), b=("ssm", law(2, 1)))) == []


def test_a_crossover_within_the_intervals_is_not_shown(tmp_path: Path) -> None:
    wide = cells(tmp_path, a=("cnn", law(1, 1.02), 0.2), b=("ssm", {**law(1.03, 1)}, 0.2))
    assert [c.shown for c in crossovers(wide)] == [False]


def test_an_invalid_timing_shows_nothing(tmp_path: Path) -> None:
    curves = {"a": ("cnn", law(1, 2), 0.01, (64, 128)), "b": ("ssm", law(8, 1))}
    assert [c.shown for c in crossovers(cells(tmp_path, **curves))] == [False]


def test_refused_sizes_are_left_out_of_lines(tmp_path: Path) -> None:
    curve = {64: None, 128: 2.0, 256: 8.0}
    some = cells(tmp_path, a=("hybrid", curve), b=("cnn", law(1, 1)))
    mine = lines(some)["a"]
    assert [cell.size for cell in mine] == [128, 256]
    assert exponent(mine) == pytest.approx(1)
    assert exponent(mine[:1]) is None
    assert some[0].row()["timing"] == "refused"


def test_a_missing_file_is_named(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=naming("build.json")):
        load([(tmp_path / "build.json", tmp_path / "host.json")])


def test_report_has_figure_table_and_crossovers(tmp_path: Path) -> None:
    entries = build(tmp_path / "results", [Spec(n=60)])
    pairs = write(tmp_path, "attention", "hybrid", {**law(1, 2), 64: None}, 0.01, (512,))
    pairs += write(tmp_path, "scan", "ssm", law(8, 1))
    out = tmp_path / "report"
    stage.run({"name": "sizes"}, entries, out=out, scaled=pairs)
    html = (out / "index.html").read_text()
    assert 'id="scaling"' in html
    assert "&lt;images&gt;" in html
    section = html[html.index('<section id="scaling">') :]
    assert "<td>181</td><td>128 and 256</td>" in section
    assert "! INVALID" in section
    svg = (out / "figures" / "scaling.svg").read_text()
    assert "attention (hybrid)" in svg
    with (out / "scaling.csv").open(newline="") as handle:
        rows = list(csv.DictReader(handle))
    assert len(rows) == 8
    assert {r["timing"] for r in rows} == {"VALID", "INVALID", "refused"}
    assert rows[-1]["bytes_moved"] == "512000"
    assert read_json(out / "comparison.json")["crossovers"][0]["below"] == "attention"
    stage.run({"name": "sizes"}, entries, out=tmp_path / "again", scaled=pairs)
    assert (tmp_path / "again" / "figures" / "scaling.svg").read_text() == svg


def test_report_without_sizes_has_no_such_section(tmp_path: Path) -> None:
    entries = build(tmp_path / "results", [Spec(n=60)])
    stage.run({"name": "none"}, entries, out=tmp_path / "report")
    assert 'id="scaling"' not in (tmp_path / "report" / "index.html").read_text()
    assert not (tmp_path / "report" / "scaling.csv").exists()


def test_networks_of_the_same_size_join_the_rank_study(tmp_path: Path) -> None:
    specs = [Spec(model="trained", p50=2.0), Spec(model="both", p50=3.0)]
    cells = load(
        write(tmp_path / "a", "both", "cnn", {64: 9.0})
        + write(tmp_path / "b", "untrained", "ssm", {64: 5.0, 128: 20.0})
        + write(tmp_path / "c", "other_size", "ssm", {128: 20.0})
        + write(tmp_path / "d", "noisy", "ssm", {64: 20.0}, invalid=(64,))
    )
    found, left_out = ranks.points(load_all(build(tmp_path, specs)), "host", cells)
    assert [(p.model, p.latency_ms) for p in found] == [
        ("trained", 2.0), ("both", 3.0), ("untrained", 5.0)
    ]  # fmt: skip
    assert left_out == ["noisy (timing INVALID)"]
    assert len(ranks.points(load_all(build(tmp_path, specs)), "elsewhere", cells)[0]) == 0


def test_a_network_that_the_engine_refuses_has_its_reason(tmp_path: Path) -> None:
    ((build_file, measured),) = write(tmp_path, "ssd_xs", "ssm", {64: 1.0})
    refusal: dict[str, Any] = {
        "refused": "no kernel for LinearAttention",
        "settings": [],
        "explanation": None,
    }
    write_json(measured, read_json(measured) | refusal)
    (cell,) = load([(build_file, measured)])
    assert cell.timing is None
    row = cell.row()
    assert (row["timing"], row["reason"]) == ("refused", "no kernel for LinearAttention")
    assert lines([cell]) == {"ssd_xs": []}
