"""What the operators of a network take on a device, and whole programs beside each other, for recipes that place by it.

The time of an operator is that of a small graph of it, less what surrounds it: the call, and at each end half of the graph in which
nothing stands between two neighbours (`Piece` ``nothing``). So a convolution between two others does not pay for layouts that only
a graph of one convolution has to change.
"""

from __future__ import annotations

import logging
import math
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from edgeward.core.errors import UserError
from edgeward.core.io import sha256
from edgeward.core.plugins import load
from edgeward.profiling.config import ProfileConfig
from edgeward.profiling.statistics import paired_ratio
from edgeward.profiling.transport import Device, open_device
from edgeward.profiling.transport.device import one_line
from edgeward.records.kernels import KernelCosts
from edgeward.runtimes.base import Bench, End, ExportConfig, Form, Piece, Timed, runtime

if TYPE_CHECKING:
    from torch.export import ExportedProgram

log = logging.getLogger(__name__)

WHERE = "config/profile/ (key 'engine.name')"
AT_ONCE = 48  # files of one process on the device
ROUNDS, BLOCK_S = 7, 0.003
SEED = 0
CALL = Piece("nothing", ((1, 1),), (1, 1))
Asked = tuple[Piece, Form]


def identity(cfg: ProfileConfig) -> dict[str, Any]:
    """Return what the times depend on, besides the version of the engine."""
    return {
        "device": cfg.name,
        "engine": cfg.engine.model_dump(),
        "threads": cfg.threads[0],
        "affinity": cfg.affinity,
    }


def nothing(end: End) -> Asked:
    """Return what stands for the surroundings of an end."""
    return Piece("nothing", (end.shape,), end.shape), end.form


class DeviceBench(Bench):
    """An open device, with the record of what is known of it.

    Parameters
    ----------
    cfg : the device. export : how its files are written. record : file that all sweeps share; it is made, or grows.
    properties : metadata of the files that are timed.
    """

    def __init__(
        self,
        cfg: ProfileConfig,
        export: ExportConfig,
        device: Device,
        record: Path,
        properties: dict[str, Any],
    ) -> None:
        self.name, self.runtime = cfg.name, runtime(cfg.engine.name, WHERE)
        self._cfg, self._export, self._device = cfg, export, device
        self._record, self._properties = record, properties
        self._common = {
            "engine": cfg.engine.model_dump(),
            "affinity": cfg.affinity,
            "threads": cfg.first_threads,
            "batch": 1,
            "seed": SEED,
        }
        self._known: KernelCosts | None = None

    def costs(self, asked: Sequence[Asked]) -> list[float]:
        ends = (end for piece, form in asked for end in piece.ends(form))
        surroundings = [nothing(end) for end in ends if end.laid_out]
        wanted = dict.fromkeys([(CALL, "float"), *surroundings, *asked])
        us = self._times([*wanted])

        def of(piece: Piece, form: Form) -> float:
            found = us[piece.signature(form)]
            return math.inf if found is None else found

        call = of(CALL, "float")

        def half(end: End) -> float:
            return (of(*nothing(end)) - call) / 2 if end.laid_out else 0.0

        def cost(piece: Piece, form: Form) -> float:
            whole = of(piece, form)
            if whole == math.inf:
                return math.inf
            return max(0.0, whole - call - sum(map(half, piece.ends(form))))

        return [cost(*each) for each in asked]

    def _times(self, asked: Sequence[Asked]) -> dict[str, float | None]:
        """Return the times of graphs, us, by signature; those that are not known are measured and kept."""
        known = self._load()
        us = dict(known.us) if known else {}
        missing = [each for each in asked if each[0].signature(each[1]) not in us]
        spread = dict(known.spread) if known else {}
        for start in range(0, len(missing), AT_ONCE):
            some = missing[start : start + AT_ONCE]
            answer = self._measure(some)
            refused = dict(answer["refused"])
            for position, (piece, form) in enumerate(some):
                name, blocks = piece.signature(form), answer["block_ns"][position]
                if position in refused:
                    log.warning("%s refuses %s: %s", self.name, name, one_line(refused[position]))
                us[name] = min(blocks) / 1e3 if blocks else None
                spread[name] = float(np.median(blocks) / min(blocks) - 1) if blocks else None
            # Kept after each request: a killed job goes on from here.
            self._keep(answer, us, spread)
        if missing:
            log.info("%s: %d graphs timed, %d known", self.name, len(missing), len(us))
        return us

    def _measure(self, some: Sequence[Asked]) -> dict[str, Any]:
        suffix = self.runtime.suffix
        writer = load("edgeward.runtimes", self.runtime.file_of, "pieces", WHERE)
        with tempfile.TemporaryDirectory(prefix="edgeward-kernels-") as folder:
            files = [Path(folder) / f"{i}{suffix}" for i in range(len(some))]
            for path, (piece, form) in zip(files, some, strict=True):
                writer.write(piece, form, path)
            return self._device.ask(
                {
                    **self._common,
                    "task": "kernels",
                    "models": [str(path) for path in files],
                    "sha256s": [sha256(path) for path in files],
                    "rounds": ROUNDS,
                    "block_s": BLOCK_S,
                    "max_duration_s": self._cfg.deadline_s / 2,
                }
            )

    def _load(self) -> KernelCosts | None:
        """Return what is known, if it is of this engine, its version and its settings."""
        if self._known is None and self._record.is_file():
            known = KernelCosts.read(self._record)
            here = self._device.ask({**self._common, "task": "describe"})["engine"]["version"]
            if known.identity == identity(self._cfg) and known.engine.version == here:
                self._known = known
            else:
                log.info("%s is of another set-up: measured again", self._record)
        return self._known

    def _keep(
        self, answer: dict[str, Any], us: dict[str, float | None], spread: dict[str, float | None]
    ) -> None:
        self._known = KernelCosts(
            identity=identity(self._cfg),
            threads=answer["threads"],
            engine=answer["engine"],
            host=answer["host"],
            us=us,
            spread=spread,
        )
        self._record.parent.mkdir(parents=True, exist_ok=True)
        self._known.write(self._record)

    def in_turns(
        self, reference: ExportedProgram, programs: Sequence[ExportedProgram]
    ) -> list[Timed]:
        writer = load("edgeward.runtimes", self.runtime.file_of, "export", WHERE)
        suffix = self.runtime.suffix
        with tempfile.TemporaryDirectory(prefix="edgeward-turns-") as folder:
            files = [Path(folder) / f"{i}{suffix}" for i in range(1 + len(programs))]
            for path, each in zip(files, (reference, *programs), strict=True):
                writer.write(each, self._export, self._properties, path)
            return self.files_in_turns(files)

    def files_in_turns(self, files: Sequence[Path]) -> list[Timed]:
        """As `in_turns`, of files; the first is the reference."""
        cfg = self._cfg
        answer = self._device.ask(
            {
                **self._common,
                "task": "interleave",
                "models": [str(path) for path in files],
                "sha256s": [sha256(path) for path in files],
                "input_range": self._properties["input_range"],
                "warmup": cfg.warmup.model_dump(),
                **cfg.interleave.model_dump(),
                "max_duration_s": cfg.deadline_s / 2,
            }
        )
        refused = dict(answer["refused"])
        if 0 in refused:
            raise UserError(
                f"device '{cfg.name}': the engine refuses the network in float: {one_line(refused[0])}"
            )
        if len(refused) == len(files) - 1:  # then nothing was timed
            return [Timed(None, None, None, one_line(refused[i])) for i in range(1, len(files))]
        latency = np.median(np.array(answer["samples_ns"]) / 1e6, axis=2)  # (rounds, models left)
        left = [i for i in range(len(files)) if i not in refused]
        found = []
        for i in range(1, len(files)):
            if i in refused:
                found.append(Timed(None, None, None, one_line(refused[i])))
                continue
            mine, other = latency[:, left.index(i)], latency[:, 0]
            ratio = paired_ratio(mine, other, cfg.confidence)
            assert ratio.estimate is not None
            ends = ratio.estimate, ratio.low, ratio.high
            found.append(Timed(float(np.median(other)), float(np.median(mine)), ends))
        return found


@contextmanager
def open_bench(
    cfg: ProfileConfig, export: ExportConfig, record: Path, properties: dict[str, Any]
) -> Iterator[DeviceBench]:
    """Open the device of a configuration as a bench; see `DeviceBench`.

    Raises
    ------
    UserError
        If the device cannot be reached, or its files are written for another runtime.
    """
    files_of = runtime(cfg.engine.name, WHERE).file_of
    if export.runtime != files_of:
        raise UserError(
            f"device '{cfg.name}' takes files of {files_of}, and export.runtime is '{export.runtime}' (config/export/): choose a device "
            "whose engine takes the file that ships."
        )
    with open_device(cfg) as device:
        yield DeviceBench(cfg, export, device, record, properties)
