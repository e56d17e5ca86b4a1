"""The published format: what the stage writes follows it, and everything else is named."""

from __future__ import annotations

import copy
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import jsonschema
import numpy as np
import onnx
import onnxruntime
import pytest
from refusals import naming
from shipped import shipped

from edgeward.core.errors import UserError
from edgeward.profiling import ceilings, stage, validate
from edgeward.profiling.config import ProfileConfig
from edgeward.profiling.measuring import energy_record
from edgeward.profiling.validate import problems
from edgeward.records.profile import json_schema
from edgeward.runtimes.onnxruntime import probes

ROOT = Path(__file__).parents[3]


@pytest.fixture(scope="module")
def config() -> ProfileConfig:
    values = shipped("profile", "host_quick")
    return ProfileConfig(**values)


@pytest.fixture(scope="module")
def best(config: ProfileConfig, tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("devices") / "host_quick.json"
    ceilings.run(config.of_ceilings, out=path)
    return path


@pytest.fixture(scope="module")
def profile(
    config: ProfileConfig, best: Path, fp32_model: Path, tmp_path_factory: pytest.TempPathFactory
) -> dict[str, Any]:
    out = tmp_path_factory.mktemp("profile") / "host_quick.json"
    metrics = stage.run(config, model=fp32_model, out=out, ceilings=best)
    document: dict[str, Any] = json.loads(out.read_text())
    assert metrics["roofline_ms"] == document["explanation"]["roofline_ms"]
    assert metrics["bytes_moved"] == document["explanation"]["bytes_moved"]
    return document


@pytest.fixture(scope="module")
def independent() -> jsonschema.Draft202012Validator:
    schema = json.loads((ROOT / "docs" / "profile.schema.json").read_text())
    jsonschema.Draft202012Validator.check_schema(schema)
    return jsonschema.Draft202012Validator(schema)


def test_the_published_schema_is_that_of_the_models() -> None:
    published = (ROOT / "docs" / "profile.schema.json").read_text()
    assert published == json.dumps(json_schema(), indent=2) + "\n", (
        "run: python -m edgeward.profiling.validate --schema > docs/profile.schema.json"
    )


def test_what_the_stage_writes_follows_the_format(
    profile: dict[str, Any], independent: jsonschema.Draft202012Validator
) -> None:
    assert problems(profile) == []
    assert list(independent.iter_errors(profile)) == []


def test_the_example_in_the_docs_follows_the_format(
    independent: jsonschema.Draft202012Validator,
) -> None:
    document = json.loads((ROOT / "docs" / "profile.example.json").read_text())
    assert problems(document) == []
    assert list(independent.iter_errors(document)) == []


@pytest.mark.parametrize("load_j", [20.0, 0.0])
def test_measured_energy_follows_the_format_also_when_doubtful(
    profile: dict[str, Any], independent: jsonschema.Draft202012Validator, load_j: float
) -> None:
    window = {"idle_j": 2.0, "idle_s": 1.0, "load_j": load_j, "load_s": 2.0, "n": 100}
    answer = {"counter": {"kind": "rapl", "domains": ["package-0"]}, "windows": [window] * 3}
    energy = energy_record(answer, 1)
    assert energy.verdict == ("VALID" if load_j else "INVALID")
    document = {**profile, "energy": energy.content()}
    assert problems(document) == []
    assert list(independent.iter_errors(document)) == []


def _drop(document: dict[str, Any]) -> None:
    del document["settings"][0]["n"]


def _misspell(document: dict[str, Any]) -> None:
    setting = document["settings"][0]
    setting["lod_ms"] = setting.pop("load_ms")


def _text(document: dict[str, Any]) -> None:
    document["settings"][0]["latency_ms"]["p90"]["estimate"] = "2.5 ms"


def _doubt(document: dict[str, Any]) -> None:
    document["settings"][0] |= {"verdict": "INVALID", "reasons": []}


def _guess(document: dict[str, Any]) -> None:
    document["energy"] = {"status": "estimated", "gross_mj": 3.0}


def _percentile(document: dict[str, Any]) -> None:
    latency = document["settings"][0]["latency_ms"]
    latency["trimmed"] = latency["p50"]


def _empty(document: dict[str, Any]) -> None:
    document["settings"] = []


def _hash(document: dict[str, Any]) -> None:
    document["model"]["sha256"] = "abc"


@pytest.mark.parametrize(
    ("spoil", "says"),
    [
        (_drop, "settings[0].n: is missing"),
        (_misspell, "settings[0].lod_ms: is not a key of the format. Did you mean 'load_ms'?"),
        (_text, 'settings[0].latency_ms.p90.estimate: value "2.5 ms"'),
        (_doubt, "INVALID at least one"),
        (_guess, "'not measured', 'measured'"),
        (_percentile, "trimmed: neither mean, min, max nor a percentile"),
        (_empty, "settings is empty although the model is not refused"),
        (_hash, 'model.sha256: value "abc"'),
    ],
)
def test_both_validators_refuse_what_breaks_the_format(
    profile: dict[str, Any],
    independent: jsonschema.Draft202012Validator,
    spoil: Callable[[dict[str, Any]], None],
    says: str,
) -> None:
    document = copy.deepcopy(profile)
    spoil(document)
    assert says in "\n".join(problems(document))
    assert list(independent.iter_errors(document))


def test_what_json_schema_cannot_say(profile: dict[str, Any]) -> None:
    document = copy.deepcopy(profile)
    record = document["settings"][0]["latency_ms"]["p50"]
    record["low"] = record["estimate"] * 2
    assert any("low <= estimate <= high" in problem for problem in problems(document))
    document = copy.deepcopy(profile)
    document["settings"][0] |= {"verdict": "VALID", "reasons": []}
    document["emulated"] = True
    assert problems(document) == [
        p for p in problems(document) if "VALID although the device is emulated" in p
    ]
    assert problems(document)


def test_the_command(
    profile: dict[str, Any], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    good, bad, broken = (tmp_path / f"{name}.json" for name in ("good", "bad", "broken"))
    good.write_text(json.dumps(profile))
    bad.write_text(json.dumps({**profile, "schema": "edgeward-profile/1"}))
    broken.write_text("{")
    assert validate.main([str(good)]) == 0
    assert "good.json: follows edgeward-profile/2" in capsys.readouterr().out
    assert validate.main([str(good), str(bad)]) == 1
    assert "bad.json: schema: value 'edgeward-profile/1'; allowed is 'edgeward-profile/2'" in (
        capsys.readouterr().err
    )
    assert validate.main([str(bad), str(broken), str(tmp_path / "absent.json")]) == 2
    said = capsys.readouterr().err
    assert "broken.json: cannot be read" in said
    assert "absent.json: cannot be read" in said


def test_ceilings_are_rates_of_this_engine(best: Path, config: ProfileConfig) -> None:
    record = ceilings.read(best, config).content()
    assert {rate["graph"] for rate in record["rates"]} == set(probes.GRAPHS)
    for precision in ("fp32", "int8"):
        rates = [r["gmac_per_s"] for r in record["rates"] if r["precision"] == precision]
        assert record[f"{precision}_gmac_per_s"] == max(rates)
        assert min(rates) > 0
    assert [p["bytes"] for p in record["copy"]] == [
        1000 * size for size in config.explain.ceilings.copy_kb
    ]
    assert all(p["gb_per_s"] > 0 for p in record["copy"])


def test_ceilings_of_another_set_up_are_refused(best: Path, config: ProfileConfig) -> None:
    other = config.model_copy(update={"threads": [2]})
    with pytest.raises(
        UserError, match=naming("host_quick.json", "config/profile/host_quick.yaml", "threads")
    ):
        ceilings.read(best, other)


@pytest.mark.parametrize("name", list(probes.GRAPHS))
def test_the_graphs_count_their_macs_and_run_on_integers(name: str, tmp_path: Path) -> None:
    counts = []
    for integer in (False, True):
        model, macs = probes.graph(name, integer)
        onnx.checker.check_model(model, full_check=True)
        counts.append(macs)
    shape, weights, operator = probes.GRAPHS[name]
    per_output = np.prod(weights[1:]) if operator == "Conv" else weights[0]
    assert counts == [probes.LAYERS * np.prod(shape) * per_output] * 2
    options = onnxruntime.SessionOptions()
    options.optimized_model_filepath = str(tmp_path / "optimised.onnx")
    options.log_severity_level = 3
    onnxruntime.InferenceSession(
        model.SerializeToString(), options, providers=["CPUExecutionProvider"]
    )
    kinds = [node.op_type for node in onnx.load(tmp_path / "optimised.onnx").graph.node]
    assert kinds.count(f"QLinear{operator}") == probes.LAYERS
    assert "QuantizeLinear" not in kinds


def refused(profile: dict[str, Any]) -> dict[str, Any]:
    return profile | {
        "refused": "no kernel for Scan",
        "settings": [],
        "throughput": [],
        "cold_start": None,
        "explanation": None,
        "int8_mac_share": None,
    }


def test_a_refused_model_has_a_profile_without_figures(
    profile: dict[str, Any], independent: jsonschema.Draft202012Validator, tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:  # fmt: skip
    document = refused(profile)
    assert problems(document) == []
    independent.validate(document)
    (tmp_path / "p.json").write_text(json.dumps(document))
    assert validate.main([str(tmp_path / "p.json")]) == 0
    assert "the engine refuses the model" in capsys.readouterr().out


@pytest.mark.parametrize("key", ["settings", "explanation", "throughput"])
def test_a_model_is_measured_or_refused_not_both_nor_neither(
    profile: dict[str, Any], independent: jsonschema.Draft202012Validator, key: str
) -> None:
    both = refused(profile) | {key: profile[key] or [{}]}
    assert problems(both)
    assert not independent.is_valid(both)
    if key != "throughput":
        neither = profile | {key: refused(profile)[key]}
        assert any("although the model is not refused" in text for text in problems(neither))
        assert not independent.is_valid(neither)
