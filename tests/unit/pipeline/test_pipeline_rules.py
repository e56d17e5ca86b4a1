"""Where files lie, and which of them jobs read."""

from __future__ import annotations

import re
from pathlib import Path
from types import SimpleNamespace

import pytest
from refusals import naming

from edgeward.core.errors import UserError
from edgeward.models.config import WEIGHTS_ROOT
from edgeward.pipeline import paths
from edgeward.pipeline.paths import (
    Assess,
    Fold,
    Interleave,
    Pool,
    Prepare,
    Profile,
    ResultPaths,
    Train,
)
from edgeward.pipeline.rules import Pipeline

PROJECT = Path(__file__).resolve().parents[3]


@pytest.fixture
def pipeline(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Pipeline:
    """The pipeline of a sweep with images in the plane and volumes."""
    monkeypatch.chdir(tmp_path)
    for name in ("PYTHONPATH", "EDGEWARD_HEADLINE_DEVICE"):
        monkeypatch.setenv(name, "")
    return Pipeline({"sweep": "segmentation_smoke"})


@pytest.mark.parametrize(
    ("kind", "of", "names"),
    [
        (Prepare, ("phantom",), ("images", "log")),
        (Train, ("phantom", "dscnn", 3), ("checkpoint", "config", "metrics", "folder")),
        (Profile, ("phantom", "dscnn", 3, "fp32", "host"), ("record", "config", "metrics", "log")),
        (Interleave, ("smoke", "host"), ("record", "config", "log")),
        (Pool, ("smoke", "phantom"), ("record", "metrics", "log")),
        (Fold, ("phantom", 3), ("card", "split", "calibration", "log")),
    ],
)
def test_the_pattern_filled_in_is_the_path(
    kind: type[paths.Stage], of: tuple, names: tuple[str, ...], tmp_path: Path
) -> None:
    one, elsewhere = kind(*of), kind(*of, root=tmp_path)
    for name in names:
        pattern, path = getattr(kind, name), getattr(one, name)
        wildcards = set(re.findall(r"{(\w+)}", str(pattern)))
        assert len(wildcards) == len(of)
        assert str(pattern).format(**{w: getattr(one, w) for w in wildcards}) == str(path)
        assert getattr(elsewhere, name) == tmp_path / path


def test_a_candidate_knows_its_files() -> None:
    at = ResultPaths("phantom", "dscnn", 0, "fp32", ("host",))
    assert at.train.checkpoint == Path("results/phantom/dscnn/s0/train/model.pt")
    assert at.profiles == {"host": Path("results/phantom/dscnn/s0/fp32/profile/host.json")}
    assert at.assess == Assess("phantom", "dscnn", 0, "fp32")


def test_paths_are_spelled_in_one_file() -> None:
    spelled = re.compile(r"""["'`\s(](results|logs)/[\w{]""")
    files = [
        *(PROJECT / "src").rglob("*.py"),
        *(PROJECT / "workflow").rglob("*.*"),
        PROJECT / "Snakefile",
    ]
    texts = {file: file.read_text() for file in files if file.suffix in {".py", ".smk", ""}}
    assert [str(f) for f, text in texts.items() if spelled.search(text)] == [paths.__file__]


def test_jobs_read_masks_and_volumes_where_there_are_any(pipeline: Pipeline) -> None:
    plane, volumes, other = (
        {p.name for p in pipeline.prepared(SimpleNamespace(data=data))}
        for data in ("phantom_masks_tiny", "phantom3d_tiny", "dermamnist")
    )
    assert other == {"images.npy", "labels.npy", "split.csv", "calibration.csv"}
    assert plane == other | {"masks.npy"}
    assert volumes == other | {"masks.npy", "volumes.csv"}
    patterns = [
        pipeline.data(masks=masks, volumes=deep).split("|")
        for masks, deep in ((False, False), (True, False), (True, True))
    ]
    assert sorted(d for names in patterns for d in names) == sorted(
        pipeline.wildcards["data"].split("|")
    )
    assert "dermamnist" in patterns[0]
    assert "phantom_masks_tiny" in patterns[1]
    assert {"phantom3d_tiny", "hippocampus"} <= set(patterns[2])


def test_jobs_of_cross_validated_data_read_the_fold_of_their_seed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    study(tmp_path, monkeypatch, folds=3, seeds=[0, 2])
    pipeline = Pipeline({"sweep": "mine"})
    job = SimpleNamespace(data="mine", model="dscnn", seed="2", recipe="fp32")
    assert pipeline.card(job) == Fold("mine", 2).card
    assert [str(p) for p in pipeline.prepared(job)] == [
        "results/mine/prepare/images.npy",
        "results/mine/prepare/labels.npy",
        "results/mine/prepare/fold2/split.csv",
        "results/mine/prepare/fold2/calibration.csv",
    ]
    pool = SimpleNamespace(data="mine")
    assert pipeline.card(pool) == Prepare("mine").card
    assert pipeline.folds(pool) == [Fold("mine", k).card for k in (0, 2)]
    assert "mine" in pipeline.folded.split("|")
    other = SimpleNamespace(data="phantom_tiny", seed="2")
    assert pipeline.card(other) == Prepare("phantom_tiny").card
    assert pipeline.folds(other) == []


def test_trainings_follow_their_files_of_weights(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    study(tmp_path, monkeypatch, folds=3, seeds=[0])
    monkeypatch.setenv(WEIGHTS_ROOT, "")
    model = tmp_path / "config/model/dscnn.yaml"
    model.parent.mkdir()
    shipped = (PROJECT / "config/model/dscnn.yaml").read_text()
    model.write_text(f"{shipped}\nweights: {{kind: file, path: mine.pth}}\n")
    with pytest.raises(
        UserError,
        match=naming("config/model/dscnn.yaml", "model.weights.path", "mine.pth", "weights_root"),
    ):
        Pipeline({"sweep": "mine"})
    (tmp_path / "elsewhere").mkdir()
    (tmp_path / "elsewhere/mine.pth").write_bytes(b"x")
    pipeline = Pipeline({"sweep": "mine", "weights_root": str(tmp_path / "elsewhere")})
    job = SimpleNamespace(data="mine", model="dscnn", seed="0")
    assert pipeline.weights(job) == [tmp_path / "elsewhere/mine.pth"]
    model.write_text(shipped)
    with pytest.raises(UserError, match=naming("weights_root", "nowhere")):
        Pipeline({"sweep": "mine", "weights_root": str(tmp_path / "nowhere")})


def test_finished_files_are_taken_and_not_trained(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    study(tmp_path, monkeypatch, folds=3, seeds=[0])
    files = {
        "model/theirs.yaml": "builder: onnx\nfile: theirs.onnx\nfamily: other\n",
        "compress/int8.yaml": "file: int8.onnx\n",
        "sweeps/mine.yaml": (
            "description: x\ndata: [phantom_tiny]\nmodel: [theirs]\nrecipe: [as_given, int8]\n"
            "overrides: [safety.reference=as_given]\n"
        ),
    }
    for name, text in files.items():
        (tmp_path / "config" / name).parent.mkdir(exist_ok=True)
        (tmp_path / "config" / name).write_text(text)
    root = tmp_path / "files"
    root.mkdir()
    asked = {"sweep": "mine", "weights_root": str(root)}
    (root / "theirs.onnx").touch()
    with pytest.raises(UserError, match=naming("int8.onnx", "config/compress/int8.yaml")):
        Pipeline(asked)
    (root / "int8.onnx").touch()
    pipeline = Pipeline(asked)
    finished, built = (pipeline.recipes(finished=f).split("|") for f in (True, False))
    assert {"as_given", "as_given_int8", "int8"} <= {*finished}
    assert {"fp32", "ptq_int8"} <= {*built}
    job = SimpleNamespace(data="phantom_tiny", model="theirs", seed="0", recipe="int8")
    assert pipeline.finished_file(job) == root / "int8.onnx"
    assert pipeline.adopt_slice(job)["model"]["takes"] is None
    read = {path.parts[-2:] for path in pipeline.candidates}
    assert (
        not {("train", "history.csv"), ("train", "config.yaml"), ("compress", "config.yaml")} & read
    )
    assert {
        ("prepare", "config.yaml"),
        ("export", "config.yaml"),
        ("assess", "config.yaml"),
    } <= read

    sweep = tmp_path / "config/sweeps/mine.yaml"
    sweep.write_text(sweep.read_text().replace("int8]", "ptq_int8]"))
    with pytest.raises(UserError, match=naming("'theirs'", "'ptq_int8'", "as_given_int8")):
        Pipeline(asked)


def test_a_seed_that_names_no_fold_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    study(tmp_path, monkeypatch, folds=3, seeds=[0, 3])
    with pytest.raises(
        UserError, match=naming("seed", "[3]", "'mine'", "0 to 2", "data.split.folds")
    ):
        Pipeline({"sweep": "mine"})


def study(at: Path, monkeypatch: pytest.MonkeyPatch, folds: int, seeds: list[int]) -> None:
    """Make a study of cross-validated data the working directory."""
    data = "defaults:\n  - phantom_tiny\n  - _self_\nsplit:\n  kind: folds\n  folds: " + str(folds)
    sweep = (
        f"description: x\ndata: [mine]\nmodel: [dscnn]\nrecipe: [fp32, ptq_int8]\nseed: {seeds}\n"
    )
    for file, text in (("data/mine", data), ("sweeps/mine", sweep)):
        path = at / "config" / f"{file}.yaml"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    monkeypatch.chdir(at)
    for name in ("PYTHONPATH", "EDGEWARD_HEADLINE_DEVICE"):
        monkeypatch.setenv(name, "")


def test_a_candidate_is_compared_with_its_reference(pipeline: Pipeline) -> None:
    job = SimpleNamespace(data="phantom3d_tiny", model="u_lite", seed="0", recipe="ptq_int8")
    reference = Assess("phantom3d_tiny", "u_lite", 0, "fp32")
    assert pipeline.reference(job) == [reference.safety, reference.cases]
    assert pipeline.reference(SimpleNamespace(**vars(job) | {"recipe": "fp32"})) == []


def test_the_report_reads_what_it_shows(pipeline: Pipeline) -> None:
    files = set(map(str, pipeline.candidates))
    assert "results/phantom_masks_tiny/prepare/masks.npy" in files
    at = "results/phantom_masks_tiny/u_lite/s0"
    slices = {f"{at}/fp32/{stage}/config.yaml" for stage in ("compress", "export", "assess")}
    assert slices | {f"{at}/train/config.yaml"} <= files  # whose hashes are on the sign-off sheet
    assert any(file.endswith(".config.yaml") and "/fp32/profile/" in file for file in files)
    assert pipeline.pooled == []
    assert pipeline.size_tables == []


def test_a_recipe_that_places_by_times_gets_its_device(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    sweeps = tmp_path / "config" / "sweeps"
    sweeps.mkdir(parents=True)
    text = "description: x\ndata: [phantom_tiny]\nmodel: [dscnn]\nrecipe: [fp32, ptq_int8, fast_int8_openvino]\ndevice: [host_quick]\noverrides: [train=smoke, profile.min_count=77, 'profile.threads=[2]']\n"
    (sweeps / "placed.yaml").write_text(text)
    pipeline = Pipeline({"sweep": "placed"})
    placed = set(pipeline.recipes(finished=False, placed=True).split("|"))
    assert placed == {"fast_int8", "fast_int8_openvino", "safe_fast_int8"}
    assert not placed & {*pipeline.recipes(finished=False, placed=False).split("|")}
    job = SimpleNamespace(data="phantom_tiny", model="dscnn", seed="0", recipe="fast_int8_openvino")
    slices = pipeline.compress_slice(job)
    device = slices["device"]
    assert (device["name"], device["engine"]["name"]) == ("host_openvino", "openvino")
    # What the times depend on, and not for how long the sweep measures latencies.
    assert (device["threads"], device["min_count"]) == ([2], 200)
    assert slices["export"]["runtime"] == "onnxruntime"
    job.recipe = "ptq_int8"
    assert set(pipeline.compress_slice(job)) == {"compress", "seed"}
    (sweeps / "lost.yaml").write_text(text + "per_recipe: {fast_int8_openvino: [compress.steps.1.device=hosst]}\n")  # fmt: skip
    with pytest.raises(
        UserError, match=naming("'hosst'", "host", "config/compress/fast_int8_openvino.yaml")
    ):
        Pipeline({"sweep": "lost"})
