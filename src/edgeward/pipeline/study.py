"""Write a study of one's own: a Snakefile of a few lines that includes the workflow, settings, and config files."""

from __future__ import annotations

import re
import shutil
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from edgeward.core.errors import UserError
from edgeward.core.io import atomic, sha256
from edgeward.data.sources.folder import SIDES
from edgeward.models.config import Takes
from edgeward.pipeline.home import PROJECT
from edgeward.pipeline.paths import Report

SETTINGS = "study.yaml"
SWEEP = "study"
FILES = "files"  # finished files of a study, in its folder
SNAKEFILE = '''"""A study with edgeward. `snakemake --cores all` runs the sweep that study.yaml names; config/ holds what it is of."""

from edgeward.pipeline.home import SNAKEFILE


configfile: "study.yaml"


# Included, not taken as a module: Snakemake runs no handlers of modules, and the table at the end is one.
include: str(SNAKEFILE)


localrules:
    study,


rule study:
    default_target: True
    input:
        rules.all.input,
'''
IGNORED = "results/\nlogs/\n.snakemake/\n.edgeward/\nmlflow.db\nmlruns/\n.mlflow.db.lock\n"
README = """# {title}

A study with edgeward.

- `snakemake --cores all` runs what `study.yaml` names, and goes on where it was stopped; `snakemake -n` says what it would do.
- `{report.page}` is the report, `{report.checklists}` holds what is signed; `edgeward ui` shows every run.
- `config/data/`, `config/model/`, `config/compress/`, `config/sweeps/` hold what is of this study; names that are not here are those
  that come with edgeward. `edgeward validate` checks all of it.
"""


@dataclass(frozen=True)
class Images:
    """Images of a user, as they lie.

    Attributes
    ----------
    root, name : the data root, and the folder below it.
    source : the config section ``data.source``. split : the section ``data.split``; None: the default.
    """

    root: Path
    name: str
    source: dict[str, Any]
    split: dict[str, Any] | None


def slug(text: str) -> str:
    """Return a name as config files may have it."""
    name = re.sub(r"[^a-z0-9]+", "_", text.lower()).strip("_")
    return name or "unnamed"


def look_at(folder: Path, labels: Path | None) -> Images:
    """Find out how the images of a folder are laid out: class folders, split and class folders, or a table.

    Raises
    ------
    UserError
        If there is no such folder, or the table lies outside of it.
    """
    root = folder.expanduser().resolve()
    if not root.is_dir():
        raise UserError(f"--data {folder}: there is no such folder.")
    source: dict[str, Any] = {"kind": "folder", "path": root.name}
    split = None
    if labels is not None:
        table = labels.expanduser().resolve()
        if not table.is_file() or not table.is_relative_to(root):
            raise UserError(f"--labels {labels}: a CSV in {root} is needed (columns path, label).")
        source |= {"layout": "csv", "csv": table.relative_to(root).as_posix()}
        if "split" in table.open(encoding="utf-8-sig").readline().strip().split(","):
            split = {"kind": "given", "val": 0.2}
    else:
        below = {p.name.lower() for p in root.iterdir() if p.is_dir()}
        if below and below <= {*SIDES}:
            source["layout"] = "split_folders"
            split = {"kind": "given", "val": 0.2}
    return Images(root.parent, root.name, source, split)


def check(folder: Path) -> None:
    """Refuse a folder that holds something that is no study."""
    if folder.exists() and any(folder.iterdir()) and not (folder / SETTINGS).is_file():
        raise UserError(f"{folder} is not empty, and no study; name another folder.")


def write(folder: Path, title: str, settings: dict[str, Any], files: dict[str, str]) -> None:
    """Write what every study has, and its config files.

    Parameters
    ----------
    settings : of ``study.yaml``: sweep, data_root, weights_root. files : path below the folder -> content.

    Raises
    ------
    UserError
        If the folder holds something that is no study.
    """
    check(folder)
    profile = next((PROJECT / "profiles" / "default").glob("profile*.yaml"))
    whole = {
        "Snakefile": SNAKEFILE,
        SETTINGS: dumped(settings),
        ".gitignore": IGNORED,
        "README.md": README.format(title=title, report=Report(settings["sweep"])),
        f"profiles/default/{profile.name}": profile.read_text(),
        **files,
    }
    for name, text in whole.items():
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        with atomic(path) as temporary:
            temporary.write_text(text)


def dumped(content: dict[str, Any], comment: str = "") -> str:
    """Return YAML, below a comment."""
    text: str = yaml.safe_dump(content, sort_keys=False, allow_unicode=True, width=120)
    return f"# {comment}\n{text}" if comment else text


def new(folder: Path, images: Images | None) -> None:
    """Write a study in which networks are trained on one's own images.

    Parameters
    ----------
    images : None: the drawn phantom, until the user names some.
    """
    name = slug(images.name) if images else "my_images"
    section: dict[str, Any] = {"image_size": 64}
    section["source"] = images.source if images else {"kind": "folder", "path": "my_images"}
    if images and images.split:
        section["split"] = images.split
    about = (
        "Images by class; what else there is to say (patients, rare and critical classes, subgroups): docs/add-a-dataset.md of edgeward."
        + ("" if images else " A folder my_images below data_root (study.yaml), with a folder for each class.")
    )  # fmt: skip
    sweep = {
        "description": "Is the INT8 network as good as the one in float?",
        "data": [name if images else "phantom_tiny"],
        "model": ["mobilenetv3_small"],
        "recipe": ["fp32", "ptq_int8"],
        "device": ["host"],
        "seed": [0],
    }
    settings = {"sweep": SWEEP, "data_root": str(images.root) if images else "."}
    write(
        folder,
        folder.resolve().name,
        settings,
        {
            f"config/data/{name}.yaml": dumped(section, about),
            f"config/sweeps/{SWEEP}.yaml": dumped(
                sweep, "Every combination of these names is trained, compressed, profiled and judged."
            ),
        },
    )  # fmt: skip


def pair(
    folder: Path,
    reference: Path,
    compressed: Sequence[Path],
    images: Images,
    takes: Takes | None,
    facts: dict[str, Any],
    device: str,
) -> None:
    """Write a study that judges finished files against one of them.

    Parameters
    ----------
    reference, compressed : ONNX files; copied into the study.
    facts : further keys of the data set: image_size, critical, ..
    """
    of = slug(reference.stem)
    names = {slug(path.stem): path for path in compressed}
    if len(names) < len(compressed) or of in names or {"as_given", "none"} & {*names}:
        raise UserError(
            f"the files {[p.name for p in (reference, *compressed)]} need different names: results are filed under them."
        )
    model: dict[str, Any] = {"builder": "onnx", "file": reference.name, "family": "other"}
    if takes is not None:
        model["takes"] = takes.model_dump(mode="json", exclude_defaults=True)
    data = {**facts, "source": images.source, "split": images.split or {"kind": "held_out"}}
    name = slug(images.name)
    sweep = {
        "description": f"May {', '.join(p.name for p in compressed)} replace {reference.name}?",
        "data": [name],
        "model": [of],
        "recipe": ["as_given", *names],
        "device": [device],
        "overrides": ["safety.reference=as_given"],
    }
    write(
        folder,
        f"{reference.name} against {', '.join(p.name for p in compressed)}",
        {"sweep": SWEEP, "data_root": str(images.root), "weights_root": FILES},
        {
            f"config/data/{name}.yaml": dumped(data, "Images that none of the files was made from."),
            f"config/model/{of}.yaml": dumped(model, "A finished file; key `takes`: what it takes and gives."),
            **{
                f"config/compress/{recipe}.yaml": dumped({"file": path.name}, "A finished file.")
                for recipe, path in names.items()
            },
            f"config/sweeps/{SWEEP}.yaml": dumped(sweep),
        },
    )  # fmt: skip
    for path in (reference, *compressed):
        _take_along(path, folder / FILES)


def _take_along(path: Path, to: Path) -> None:
    """Copy a file, and what lies beside it of its own, unless the same is there."""
    import onnx
    from onnx.external_data_helper import _get_all_tensors, uses_external_data

    to.mkdir(parents=True, exist_ok=True)
    model = onnx.load(str(path), load_external_data=False)
    parts = {
        entry.value
        for tensor in _get_all_tensors(model)
        if uses_external_data(tensor)
        for entry in tensor.external_data
        if entry.key == "location"
    }
    for name in (path.name, *sorted(parts)):
        source, target = path.parent / name, to / name
        if ".." in Path(name).parts or not source.is_file():
            raise UserError(f"{path} needs {name} beside it, which is not there.")
        if not target.is_file() or sha256(target) != sha256(source):
            target.parent.mkdir(parents=True, exist_ok=True)
            shutil.copy2(source, target)
