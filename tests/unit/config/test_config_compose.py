"""Composition of a run: files, overrides, defaults, what is inherited, where files are looked for, and errors."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Annotated, Any

import pytest
import yaml
from pydantic import BaseModel, Field, TypeAdapter
from refusals import naming
from shipped import ROOTS, all_of, shipped

from edgeward.core.config import Closed
from edgeward.core.errors import UserError
from edgeward.models.config import ModelConfig
from edgeward.pipeline import compose as composing
from edgeward.pipeline import document
from edgeward.pipeline.compose import PROJECT, compose, names, read, roots
from edgeward.pipeline.plan import JUDGED_BY, Plan
from edgeward.pipeline.schema import CHECKS, GROUPS, SweepConfig
from edgeward.pipeline.sections import models_in

CHOICE = {"data": "phantom_tiny", "model": "mobilenetv3_small", "recipe": "fp32"}
TRAIN = {"loss": {"name": "focal", "gamma": 3.0}, "augment": {"degrees": 1.0}}


@pytest.fixture
def study(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The working directory of a study with a config folder of its own."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "config").mkdir()
    return tmp_path


def write(study: Path, file: str, content: Any) -> None:
    path = study / "config" / file
    path.parent.mkdir(exist_ok=True)
    path.write_text(content if isinstance(content, str) else yaml.safe_dump(content))


def refusal(choices: dict[str, str], *overrides: str) -> str:
    with pytest.raises(UserError) as caught:
        compose(roots(), choices, overrides)
    return str(caught.value)


# --- what is shipped --------------------------------------------------------------------------


# What a file needs of a file of another group.
FINISHED = ("model={builder: onnx, architecture: '', file: a.onnx}", "model.branch_gain=1")
NEEDS = {("compress", "as_given"): FINISHED, ("compress", "as_given_int8"): FINISHED}


@pytest.mark.parametrize("group", GROUPS)
def test_every_shipped_file_composes_to_a_complete_slice(group: str) -> None:
    read(ROOTS, [(group, name) for name in all_of(group)])
    for name in all_of(group):
        values = shipped(group, name, *NEEDS.get((group, name), ()))
        assert values.get("name", name) == name
        again = json.loads(CHECKS[group].validate_python(values).model_dump_json())
        assert again == json.loads(json.dumps(values))
        (file,) = (ROOTS[0] / group).glob(f"{name}.yaml")
        assert file.read_text().startswith("# "), "a file says what is special about it"


def sections(model: type[BaseModel], seen: set[type[BaseModel]]) -> set[type[BaseModel]]:
    if model not in seen:
        seen.add(model)
        for field in model.model_fields.values():
            for inner in models_in(field.annotation):
                sections(inner, seen)
    return seen


EVERY: set[type[BaseModel]] = set()
for its in (*GROUPS.values(), *SweepConfig.model_fields.values()):
    for top in models_in(its.annotation):
        sections(top, EVERY)


BY_NAME = sorted(EVERY, key=lambda model: f"{model.__module__}.{model.__name__}")


@pytest.mark.parametrize("model", BY_NAME)
def test_every_key_has_a_meaning_and_every_default_is_allowed(model: type[BaseModel]) -> None:
    assert issubclass(model, Closed)
    for name, field in model.model_fields.items():
        held = models_in(field.annotation)
        assert field.description or held or name in ("kind", "rule", "step", "runtime", "name")
        if isinstance(field.default, BaseModel):  # so that part of a section has the same rest
            assert type(field.default) in held
            assert field.default == type(field.default)()
        elif not field.is_required():
            allowed: Any = Annotated[field.annotation, None, *field.metadata]
            TypeAdapter(allowed).validate_python(field.default)


@pytest.mark.parametrize("value", ["nan", "inf", "-inf"])
def test_numbers_are_finite(value: str) -> None:
    assert "finite" in refusal(CHOICE, f"train.lr={value}")


# --- overrides --------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("override", "path", "value"),
    [
        ("train.epochs=3", "train.epochs", 3),
        ("safety.multiclass.margins.recall=0.03", "safety.multiclass.margins.recall", 0.03),
        ("train.augment={degrees: 2}", "train.augment.degrees", 2.0),
        ("train.augment.degrees=2", "train.augment.flips", True),
        ("+profile.power.windows=4", "profile.power.windows", 4),
        ("profile.transport={kind: ssh, host: there}", "profile.transport.folder", "/tmp"),
        ("train.patches.per_case=2", "train.patches.size", [32, 32, 32]),
        ("train.loss.tau=0.5", "train.loss.name", "logit_adjusted"),
        ("train=ham10000", "train.augment.degrees", 45.0),
        ("~train.epochs", "train.epochs", 8),
    ],
)
def test_an_override_may_name_what_no_file_spells(override: str, path: str, value: Any) -> None:
    found: Any = compose(ROOTS, CHOICE, ["train=default", override])
    for key in path.split("."):
        found = found[key]
    assert found == value


def test_an_override_may_reach_into_a_list() -> None:
    changed = shipped("compress", "qat_int8", "compress.steps.1.finetune.epochs=7")["steps"][1]
    assert changed["finetune"]["epochs"] == 7
    assert changed["finetune"]["lr"] == 1e-4
    with pytest.raises(UserError, match=naming("'compress.steps.9.share=1'", 0, 1)):
        shipped("compress", "qat_int8", "compress.steps.9.share=1")


@pytest.mark.parametrize(
    ("override", "words"),
    [
        ("train.lrr=1", ["train.lrr", "'train.lr'"]),
        ("safety.multiclass.margins.recal=1", ["'safety.multiclass.margins.recall'"]),
        ("train.epochs=-1", ["'train.epochs'", "value -1", "0"]),
        ("train.epochs=", ["'train.epochs'"]),
        ("train=hama", ["hama", "ham10000"]),
        ("trian.epochs=3", ["'trian'", "'train'"]),
        ("train.epochs=1,2", ["several values"]),
        ("train.epochs=[", ["cannot be read"]),
        ("data.source.kind=phantm", ["'data.source.kind'", "'phantm'", "'phantom'", "medmnist"]),
        ("profile.max_duration_s=0.1", ["profile", "min_duration_s"]),
        ("compress.steps.0.step=reparametrize", ["compress.steps.0.step", "'reparameterize'"]),
        ("profile.threads=[none]", ["profile.threads.0", "'none'", "all"]),
    ],
)
def test_a_wrong_override_is_named_with_key_value_and_neighbour(
    override: str, words: list[str]
) -> None:
    with pytest.raises(UserError) as caught:
        compose(ROOTS, CHOICE, [override])
    said = str(caught.value)
    assert "\n" not in said
    for word in [f"override '{override}'", *words]:
        assert word in said


# --- what recipes take from training ----------------------------------------------------------


def test_a_recipe_trains_as_training_does_where_it_is_silent(study: Path) -> None:
    write(study, "train/mine.yaml", TRAIN)
    choice = {**CHOICE, "recipe": "safe_qat_int8"}
    overrides = ["train=mine", "safety.multiclass.margins.recall=0.07"]
    run = compose(roots(), choice, overrides)
    tuned = run["compress"]["steps"][1]["finetune"]
    assert tuned["loss"] == run["train"]["loss"]
    assert tuned["loss"]["gamma"] == 3.0
    assert tuned["augment"] == run["train"]["augment"]
    assert tuned["constraint"]["acceptance"]["margins"] == {"recall": 0.07, "ece": 0.02}
    assert tuned["constraint"]["margins"]["recall"] == 0.0

    write(study, "compress/odd.yaml", {"steps": [{
        "step": "magnitude_prune", "sparsity": 0.5,
        "finetune": {"loss": {"gamma": 4.0}, "augment": {"flips": False}},
    }]})  # fmt: skip
    odd = compose(roots(), {**CHOICE, "recipe": "odd"}, overrides)["compress"]["steps"][0]
    assert odd["finetune"]["loss"] == {**run["train"]["loss"], "gamma": 4.0}
    assert odd["finetune"]["augment"] == {**run["train"]["augment"], "flips": False}


def test_another_loss_inherits_nothing(study: Path) -> None:
    write(study, "compress/odd.yaml", {"steps": [{
        "step": "magnitude_prune", "sparsity": 0.5,
        "finetune": {"loss": {"name": "dice_cross_entropy", "dice_weight": 2.0}},
    }]})  # fmt: skip
    odd = compose(roots(), {**CHOICE, "recipe": "odd"}, ["train.loss.tau=0.5"])["compress"]
    assert "tau" not in odd["steps"][0]["finetune"]["loss"]
    assert odd["steps"][0]["finetune"]["loss"]["dice_weight"] == 2.0


def test_interpolations_reach_defaults_of_the_groups_before(study: Path) -> None:
    write(
        study, "compress/odd.yaml", "steps:\n- step: qat_int8\n  finetune:\n    lr: ${train.lr}\n"
    )
    odd = compose(roots(), {**CHOICE, "recipe": "odd"}, ["train.lr=0.125"])["compress"]
    assert odd["steps"][0]["finetune"]["lr"] == 0.125
    write(study, "compress/none.yaml", "steps:\n- step: qat_int8\n  keep_float: ${train.lrr}\n")
    assert "config/compress/none.yaml" in refusal({**CHOICE, "recipe": "none"})


# --- a study's own files ----------------------------------------------------------------------


def test_a_study_has_its_files_before_the_projects(study: Path) -> None:
    write(study, "model/mine.yaml", {"architecture": "resnet10t", "family": "cnn"})
    write(study, "model/dscnn.yaml", {"defaults": ["resnet18", "_self_"], "drop_rate": 0.5})
    write(study, "data/mine.yaml", {"defaults": ["phantom_tiny"], "seed": 7})
    write(study, "sweeps/mine.yaml", {
        "description": "mine", "data": ["mine"], "model": ["mine", "dscnn"], "recipe": ["fp32"],
        "overrides": ["train=smoke"],
    })  # fmt: skip
    assert roots() == (study / "config", PROJECT)
    assert {"mine", "resnet18"} < set(names(roots(), "model"))
    assert len(names(roots(), "model")) == len(set(names(roots(), "model")))
    plan = Plan.load(roots(), "mine")
    assert plan.file == "config/sweeps/mine.yaml"
    theirs = shipped("data", "phantom_tiny") | {"name": "mine", "seed": 7}
    judged_by = {key: theirs.pop(key) for key in JUDGED_BY}
    assert plan.prepare("mine")["data"] == theirs
    safety = plan.stage("assess", plan.candidates[0])["safety"]
    assert {"critical": safety["multiclass"]["critical"], "strata": safety["strata"]} == judged_by
    assert plan.train("mine", "mine", 0)["model"]["architecture"] == "resnet10t"
    own = plan.train("mine", "dscnn", 0)["model"]
    assert (own["name"], own["architecture"], own["drop_rate"]) == ("dscnn", "resnet18", 0.5)
    assert Plan.load(roots(), "smoke").name == "smoke"


def test_the_project_has_no_second_folder(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(PROJECT.parent)
    assert roots() == (PROJECT,)
    monkeypatch.chdir("/")
    assert roots() == (PROJECT,)


@pytest.mark.parametrize(
    ("file", "content", "words"),
    [
        ("train/mine.yaml", {"epohs": 3}, ["'train.epohs'", "'train.epochs'"]),
        ("train/mine.yaml", {"augment": {"flip": 1}}, ["'train.augment.flip'", "'train.augment.flips'"]),
        ("train/mine.yaml", {"epochs": "many"}, ["'train.epochs'", "'many'"]),
        ("train/mine.yaml", {"loss": {"name": "focl"}}, ["train.loss.name", "'focl'", "'focal'"]),
        ("train/mine.yaml", "epochs: [3\n", ["cannot be read"]),
        ("train/mine.yaml", {"defaults": ["nothing"]}, ["nothing"]),
        ("train/mine.yaml", {"epochs": "???"}, ["epochs"]),
    ],
)  # fmt: skip
def test_a_broken_file_is_named_only_by_the_run_that_uses_it(
    study: Path, file: str, content: Any, words: list[str]
) -> None:
    write(study, file, content)
    compose(roots(), CHOICE)
    said = refusal(CHOICE, "train=mine")
    assert "\n" not in said
    for word in [f"config/{file}", *words]:
        assert word in said


def test_keys_that_are_missing_are_named(study: Path) -> None:
    write(study, "model/mine.yaml", {"architecture": "resnet18"})
    assert re.search(
        r"config/model/mine\.yaml: key 'model\.family' is missing", refusal({"model": "mine"})
    )
    write(study, "data/mine.yaml", {"image_size": 32})
    assert "key 'data.source' is missing" in refusal({"data": "mine"})
    write(study, "data/none.yaml", {"image_size": 32, "source": {"path": "x"}})
    assert "data.source.kind" in refusal({"data": "none"})


def test_a_name_that_is_said_is_that_of_the_file(study: Path) -> None:
    write(study, "model/mine.yaml", {"name": "yours", "architecture": "x", "family": "cnn"})
    assert "'name' is 'yours'" in refusal({"model": "mine"})


class Grown(ModelConfig):
    """A network as a later version may describe it."""

    pruned: bool = Field(False, description="A key that is new.")


def test_a_key_that_is_added_later_breaks_no_file(
    study: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write(study, "model/mine.yaml", {"architecture": "resnet18", "family": "cnn"})
    before = compose(roots(), {"model": "mine"})["model"]
    grown = {**GROUPS, "model": type(GROUPS["model"])(annotation=Grown)}
    monkeypatch.setattr(composing, "GROUPS", grown)
    monkeypatch.setattr(composing, "CHECKS", {**CHECKS, "model": TypeAdapter(Grown)})
    composing._compose.cache_clear()
    assert compose(roots(), {"model": "mine"})["model"] == {**before, "pruned": False}
    composing._compose.cache_clear()


# --- documents --------------------------------------------------------------------------------


def test_derived_files_are_up_to_date() -> None:
    assert list(document.stale(PROJECT.parent)) == [], "run: python -m edgeward.pipeline.document"


def test_the_reference_shows_every_key() -> None:
    text = document.readme(PROJECT)
    for model in EVERY:
        for name in model.model_fields:
            assert re.search(rf"^\| `([^`]*\.)?{name}(\([\w, ]+\))?`", text, re.M) or name in (
                "kind", "rule", "step", "runtime",
            ), (model, name)  # fmt: skip
    assert "| `train.augment" not in text
    assert "| `augment.degrees` | number >= 0, <= 180 | `15.0` |" in text
    assert "| `steps[](qat_int8).finetune.*` |" in text
    for group in GROUPS:
        assert all(f"- `{name}`: " in text for name in names((PROJECT,), group))
