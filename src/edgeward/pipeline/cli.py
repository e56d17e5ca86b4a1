"""The command ``edgeward``: write a study, judge finished files, measure on a phone, check a study, show its runs.

Each command that computes something prints the Snakemake command that it runs; whoever prefers that needs no other.
"""

from __future__ import annotations

import argparse
import io
import os
import shlex
import subprocess
import sys
import time
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path

from edgeward.core.errors import UserError
from edgeward.core.plugins import load
from edgeward.models.config import Takes
from edgeward.pipeline import study
from edgeward.pipeline.compose import names, roots
from edgeward.pipeline.plan import Plan
from edgeward.profiling.transport import browser
from edgeward.runtimes.base import REFERENCE, Given


def main(arguments: Sequence[str] | None = None) -> int:
    """Run a command; return its exit status: 2 if what was asked for cannot be done."""
    asked = parser().parse_args(arguments)
    try:
        return int(asked.run(asked))
    except UserError as error:
        print(f"edgeward: {error}", file=sys.stderr)
        return 2


def parser() -> argparse.ArgumentParser:
    """Return what reads the command line."""
    found = argparse.ArgumentParser(prog="edgeward", description=__doc__.splitlines()[0])
    commands = found.add_subparsers(required=True, metavar="COMMAND")

    init = commands.add_parser(
        "init", help="write a study in which networks are trained on your images"
    )
    init.add_argument("folder", type=Path, help="a new folder")
    init.add_argument(
        "--data",
        type=Path,
        help="folder of images: a folder for each class, perhaps below train/ and test/",
    )
    init.add_argument(
        "--labels", type=Path, help="CSV in it with path,label and, where known, group and split"
    )
    init.set_defaults(run=_init)

    judge = commands.add_parser(
        "judge",
        help="may these files replace that one? Finished ONNX files on images that are new to them",
    )
    judge.add_argument("reference", type=Path, help="ONNX file, as a rule in float")
    judge.add_argument("compressed", type=Path, nargs="+", help="ONNX files that are to replace it")
    judge.add_argument(
        "--data", type=Path, required=True, help="folder of images: a folder for each class"
    )
    judge.add_argument(
        "--labels", type=Path, help="CSV in it with path,label and, where known, group and split"
    )
    judge.add_argument("--out", type=Path, help="folder of the study (default: judge_<reference>)")
    judge.add_argument(
        "--input-range",
        type=float,
        nargs=2,
        metavar=("LOW", "HIGH"),
        help="what grey levels 0 to 255 become (default: 0 1)",
    )
    judge.add_argument("--mean", type=float, nargs="+", help="what is then subtracted, per channel")
    judge.add_argument(
        "--std", type=float, nargs="+", help="by what it is then divided, per channel"
    )
    judge.add_argument(
        "--logit-shift",
        type=float,
        nargs="+",
        help="what is added to the logits before probabilities are taken, per output",
    )
    judge.add_argument("--order", choices=("rgb", "bgr"), help="of the channels (default: rgb)")
    judge.add_argument("--layout", choices=("nchw", "nhwc"), help="of the input (default: nchw)")
    judge.add_argument(
        "--gives", choices=("logits", "probabilities"), help="what the output is (default: logits)"
    )
    judge.add_argument("--output", help="name of the output, where there are several")
    judge.add_argument(
        "--classes",
        type=_listed,
        help="names of the classes in the order of the outputs, as the folders are called: a,b,c",
    )
    judge.add_argument(
        "--group-pattern",
        help="regular expression whose first group, in a file's name, is the patient or lesion",
    )
    judge.add_argument(
        "--critical",
        type=_listed,
        default=[],
        help="classes in which a missed case harms the patient: a,b",
    )
    judge.add_argument(
        "--image-size", type=int, help="side of the images, pixels, where the file takes any"
    )
    judge.add_argument(
        "--fit",
        choices=("crop", "stretch", "pad"),
        default="crop",
        help="how an oblong image becomes square (default: crop)",
    )
    judge.add_argument("--device", default="host", help="a name in config/profile/ (default: host)")
    judge.add_argument("--cores", default="all")
    judge.add_argument(
        "--dry-run", "-n", action="store_true", help="write the study and say what would be done"
    )
    judge.set_defaults(run=_judge)

    phone = commands.add_parser(
        "phone", help="make results that wait for a phone: serve the page, and say what to open"
    )
    phone.add_argument("targets", nargs="*", help="e.g. results/.../profile/phone.json; none: the whole sweep")  # fmt: skip
    phone.add_argument(
        "--bind",
        required=True,
        help="address of the network interface that serves the page, e.g. 192.168.1.20",
    )
    phone.add_argument("--port", type=int, default=8765)
    phone.add_argument(
        "--certificate",
        type=Path,
        help="PEM file with certificate and key, for https: without it a phone has one thread and a coarse clock",
    )
    phone.add_argument("--sweep", help="the sweep that the files belong to (default: default)")
    phone.add_argument("--cores", default="all")
    phone.set_defaults(run=_phone)

    validate = commands.add_parser("validate", help="check all sweeps of a study, or those named")
    validate.add_argument("sweeps", nargs="*", help="names in config/sweeps/")
    validate.set_defaults(run=_validate)

    ui = commands.add_parser("ui", help="show every run of the study in this folder in MLflow")
    ui.add_argument("--port", default="5000")
    ui.set_defaults(run=_ui)
    return found  # fmt: skip


def _listed(text: str) -> list[str]:
    return [part.strip() for part in text.split(",") if part.strip()]


def _init(asked: argparse.Namespace) -> int:
    images = None if asked.data is None else study.look_at(asked.data, asked.labels)
    study.new(asked.folder, images)
    print(f"{asked.folder} is a study. Next:\n  cd {asked.folder}\n  snakemake --cores all")
    return 0


def _judge(asked: argparse.Namespace) -> int:
    opened = load("edgeward.runtimes", REFERENCE, "given", "edgeward judge").open_given
    keys = (
        "input_range", "mean", "std", "order", "layout", "gives", "logit_shift", "output", "classes",
    )  # fmt: skip
    said = {key: value for key in keys if (value := getattr(asked, key)) is not None}
    try:
        takes = Takes(**said) if said else None
        given: Given = opened(asked.reference, takes)
        for path in asked.compressed:
            opened(path, takes)
    except UserError as error:
        raise UserError(
            f"{error} On this command line: --input-range, --mean, --std and the like."
        ) from None
    except ValueError as error:
        raise UserError(f"what the files take does not fit together: {error}") from None
    size, channels = asked.image_size or given.size[0] or given.size[1], given.channels
    if size is None:
        raise UserError(f"{asked.reference} takes images of any size: say which (--image-size).")
    if any(side not in (None, size) for side in given.size):
        raise UserError(
            f"{asked.reference} takes images of {' x '.join(str(s or 'any') for s in given.size)} pixels; {size} x {size} does not fit "
            "(--image-size; images are square)."
        )
    images = study.look_at(asked.data, asked.labels)
    images.source.update(fit=asked.fit, min_side=min(64, size))
    if asked.group_pattern:
        images.source["group_pattern"] = asked.group_pattern
    if channels is not None:
        if channels not in (1, 3):
            raise UserError(f"{asked.reference} takes {channels} channels; 1 or 3 can be judged.")
        images.source["channels"] = channels
    facts = {"image_size": size, **({"critical": asked.critical} if asked.critical else {})}
    folder = asked.out or Path(f"judge_{study.slug(asked.reference.stem)}")
    study.pair(folder, asked.reference, asked.compressed, images, takes, facts, asked.device)
    options = ["-n"] if asked.dry_run else ["--cores", asked.cores]
    return _snakemake(folder, *options)  # fmt: skip


def _phone(asked: argparse.Namespace) -> int:
    environment = {**os.environ, browser.BIND: f"{asked.bind}:{asked.port}"}
    if asked.certificate:
        environment[browser.CERTIFICATE] = str(asked.certificate.resolve())
    command = ["snakemake", "--cores", asked.cores, *asked.targets]
    if asked.sweep:
        command += ["--config", f"sweep={asked.sweep}"]
    print(shlex.join(command), file=sys.stderr)
    notes, shown = browser.invitation("*").parent, set()
    for old in notes.glob("*.txt"):
        old.unlink()
    with subprocess.Popen([sys.executable, "-m", *command], env=environment) as process:
        while process.poll() is None:
            for note in notes.glob("*.txt"):
                with suppress(OSError):  # it may have been used up
                    if (address := note.read_text().strip()) and address not in shown:
                        shown.add(address)
                        print(f"\n{note.stem}: open {address}\n{_code(address)}", flush=True)
            time.sleep(0.3)
    return process.returncode


def _code(address: str) -> str:
    """Return the address as a QR code for a terminal, if segno is installed."""
    try:
        import segno
    except ImportError:
        return "(pip install segno shows it as a QR code)"
    out = io.StringIO()
    segno.make(address).terminal(out, compact=True)
    return out.getvalue()


def _snakemake(folder: Path, *options: str) -> int:
    command = ["snakemake", "-s", str(folder / "Snakefile"), "--directory", str(folder), *options]
    print(shlex.join(command), file=sys.stderr)
    return subprocess.call([sys.executable, "-m", *command])


def _validate(asked: argparse.Namespace) -> int:
    found = roots()
    own = Path("config/sweeps")
    status = 0
    for sweep in (
        asked.sweeps or sorted(p.stem for p in own.glob("*.yaml")) or names(found, "sweeps")
    ):
        try:
            plan = Plan.load(found, sweep)
        except UserError as error:
            print(error, file=sys.stderr)
            status = 2
            continue
        print(f"{plan.file}: {len(plan.candidates)} candidates")
    return status  # fmt: skip


def _ui(asked: argparse.Namespace) -> int:
    from edgeward.tracking.address import default_uri

    command = ["mlflow", "ui", "--backend-store-uri", default_uri(), "--port", asked.port]
    print(shlex.join(command), file=sys.stderr)
    return subprocess.call([sys.executable, "-m", *command], env=os.environ)


if __name__ == "__main__":
    sys.exit(main())
