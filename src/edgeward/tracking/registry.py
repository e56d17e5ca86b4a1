"""The model registry: a model whose verdict is pass gets a version, and loses its alias if not."""

from __future__ import annotations

import logging
import tempfile
from importlib.metadata import version
from pathlib import Path
from typing import Any

import mlflow.pyfunc
import onnx
from mlflow.entities.model_registry import ModelVersion
from mlflow.exceptions import MlflowException
from mlflow.models import Model, ModelSignature
from mlflow.tracking import MlflowClient
from mlflow.types import Schema, TensorSpec

from edgeward.core.io import sha256
from edgeward.tracking.entry import StageEntry
from edgeward.tracking.experiment import STUDY
from edgeward.tracking.row_metrics import AssessedModel
from edgeward.tracking.store import tags_of

ALIAS = "candidate"
FOLDER = "model"
DESCRIPTION = "Compressed models whose verdict against their reference was pass, as assessed."
EVIDENCE_ROW = (
    "latency_p50_ms",
    "latency_p90_ms",
    "peak_memory_mb",
    "file_mb",
    "rare_recall",
    "ece",
)
logger = logging.getLogger(__name__)


def log_onnx(client: MlflowClient, run_id: str, file: Path, place: str = FOLDER) -> str:
    """Keep `file`, byte for byte, as the MLflow model `place` of a run; return its SHA-256.

    `mlflow.onnx.log_model` would write the graph anew; what is registered must be the file that
    was assessed. `mlflow.onnx.load_model` and `mlflow.pyfunc.load_model` read the result.
    """
    graph = onnx.load(file, load_external_data=False).graph
    model = Model(artifact_path=place, run_id=run_id)
    model.signature = ModelSignature(_schema(graph.input), _schema(graph.output))
    model.add_flavor(
        "onnx",
        onnx_version=version("onnx"),
        data=file.name,
        providers=["CPUExecutionProvider"],
        onnx_session_options=None,
        code=None,
    )
    mlflow.pyfunc.add_to_model(model, loader_module="mlflow.onnx", data=file.name)
    model.model_size_bytes = file.stat().st_size
    with tempfile.TemporaryDirectory() as folder:
        model.save(str(Path(folder) / "MLmodel"))
        needs = [f"{name}=={version(name)}" for name in ("mlflow", "onnx", "onnxruntime")]
        (Path(folder) / "requirements.txt").write_text("\n".join(needs) + "\n")
        client.log_artifacts(run_id, folder, place)
    client.log_artifact(run_id, str(file), place)
    return sha256(file)


def _schema(values: Any) -> Schema:
    """Describe graph inputs or outputs; dynamic axes become -1."""
    specs = []
    for value in values:
        tensor = value.type.tensor_type
        shape = tuple(d.dim_value if d.HasField("dim_value") else -1 for d in tensor.shape.dim)
        specs.append(
            TensorSpec(onnx.helper.tensor_dtype_to_np_dtype(tensor.elem_type), shape, value.name)
        )
    return Schema(specs)


def model_name(entry: StageEntry) -> str:
    """Return the registered model's name; seeds are versions of one model."""
    return f"{entry.data}.{entry.model}.{entry.recipe}"


def _versions(client: MlflowClient, name: str, candidate: str, study: str) -> list[ModelVersion]:
    """Return the versions of a candidate that this study has registered; other studies on the server have their own."""
    found = client.search_model_versions(f"name='{name}'")
    mine = (v for v in found if v.tags.get(STUDY, study) == study)
    return [v for v in mine if v.tags.get("edgeward.key") == candidate]


def apply_verdict(
    client: MlflowClient,
    study: str,
    entry: StageEntry,
    run_id: str,
    parent: str,
    row: dict[str, float],
) -> None:
    """Register the assessed model if its verdict is pass, else withdraw the candidate's versions.

    Parameters
    ----------
    study : whose versions these are. run_id : the run of this `assess` entry. `parent` : the run of the candidate, which keeps the
        registered file, since runs of stages are replaced. `row` : the metrics of that run.
    """
    model = entry.row.model
    if model is None or entry.candidate is None:
        return
    name = model_name(entry)
    versions = _versions(client, name, entry.candidate, study)
    same = next((v for v in versions if v.tags.get("edgeward.onnx_sha256") == model.sha256), None)
    evidence = {
        **{f"edgeward.{key}": text for key, text in model.evidence.items()},
        **{f"edgeward.{key}": f"{row[key]:.6g}" for key in EVIDENCE_ROW if key in row},
        "edgeward.assess_run": run_id,
        STUDY: study,
    }
    if model.verdict != "pass":
        _withdraw(client, name, versions, model.verdict)
    elif same is None:
        same = _create(client, entry, model, parent, evidence)
    if same is None:
        return
    _tag(client, same, evidence)
    if model.verdict == "pass":
        client.set_registered_model_alias(name, ALIAS, same.version)
        if "edgeward.withdrawn" in same.tags:
            client.delete_model_version_tag(name, same.version, "edgeward.withdrawn")
        logger.info("%s version %s is '%s': its verdict is pass", name, same.version, ALIAS)


def _create(
    client: MlflowClient,
    entry: StageEntry,
    model: AssessedModel,
    parent: str,
    evidence: dict[str, str],
) -> ModelVersion | None:
    """Create the version of the assessed file; None if that file is no longer there."""
    name, digest = model_name(entry), model.sha256
    file = (entry.folder / model.path).resolve()
    if not file.is_file() or sha256(file) != digest:
        logger.warning("%s passed but is not registered: model.onnx has changed since", entry.key)
        run_id = evidence["edgeward.assess_run"]
        client.set_tag(run_id, "edgeward.not_registered", f"{digest} has been replaced since")
        return None
    place = f"registered/{digest[:12]}"
    log_onnx(client, parent, file, place)
    try:
        client.create_registered_model(name, description=DESCRIPTION)
    except MlflowException as error:
        if error.error_code != "RESOURCE_ALREADY_EXISTS":
            raise
    tags = {
        **evidence,
        "edgeward.key": entry.candidate,
        "edgeward.onnx_sha256": digest,
        "edgeward.data": entry.data,
        "edgeward.seed": entry.seed,
    }
    source = f"{client.get_run(parent).info.artifact_uri}/{place}"
    return client.create_model_version(
        name, source, parent, tags=tags_of(tags), await_creation_for=0
    )


def _tag(client: MlflowClient, target: ModelVersion, tags: dict[str, Any]) -> None:
    for key, value in tags_of(tags).items():
        if target.tags.get(key) != value:
            client.set_model_version_tag(target.name, target.version, key, value)


def _withdraw(client: MlflowClient, name: str, versions: list[ModelVersion], verdict: str) -> None:
    """Take the alias from the candidate's versions and say why."""
    if not versions:
        return
    holder = client.get_registered_model(name).aliases.get(ALIAS)
    for found in versions:
        _tag(client, found, {"edgeward.withdrawn": f"a later assessment ended in {verdict}"})
        if str(holder) == str(found.version):
            client.delete_registered_model_alias(name, ALIAS)
            logger.warning("%s version %s is withdrawn: verdict %s", name, found.version, verdict)


def refresh(client: MlflowClient, study: str, entry: StageEntry, row: dict[str, float]) -> None:
    """Bring the measurements in the tags of the candidate's versions up to date (after `profile`)."""
    if entry.candidate is None:
        return
    values = {f"edgeward.{key}": f"{row[key]:.6g}" for key in EVIDENCE_ROW if key in row}
    for found in _versions(client, model_name(entry), entry.candidate, study):
        _tag(client, found, values)
