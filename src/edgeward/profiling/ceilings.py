"""The ceilings of a device: copy bandwidth and matrix rates, measured once and used by all models.

The matrix rates are those of small files (`probes` of the runtime) run by the engine under test with the threads under
test: convolutions and matrix products of sizes that suit it, in fp32 and in INT8. The best of each
kind is the ceiling.
"""

from __future__ import annotations

import logging
import tempfile
from pathlib import Path
from typing import Any

from edgeward.core.errors import UserError
from edgeward.core.io import sha256
from edgeward.core.plugins import load
from edgeward.profiling.config import DeviceCeilingsConfig, ProfileConfig
from edgeward.profiling.transport import open_device
from edgeward.records.ceilings import Ceilings, Rate
from edgeward.records.explanation import CopyPoint
from edgeward.runtimes.base import Probe, runtime

log = logging.getLogger(__name__)


def identity(cfg: DeviceCeilingsConfig) -> dict[str, Any]:
    """Return what ceilings depend on: they serve every profile that has the same."""
    return {
        "device": cfg.name,
        "engine": cfg.engine.model_dump(),
        "threads": cfg.threads[0],
        "affinity": cfg.affinity,
        "explain": cfg.ceilings.model_dump(),
    }


def measure(cfg: DeviceCeilingsConfig) -> Ceilings:
    """Return the ceilings of a device for its first thread setting.

    Raises
    ------
    UserError
        If the device cannot be reached or the engine cannot run the graphs.
    """
    with tempfile.TemporaryDirectory(prefix="edgeward-ceilings-") as folder, open_device(cfg) as at:
        where = "config/profile/ (key 'engine.name')"
        files_of = runtime(cfg.engine.name, where).file_of
        probes: list[Probe] = load("edgeward.runtimes", files_of, "probes", where).write(
            Path(folder)
        )
        answer = at.ask(
            {
                "task": "ceilings",
                "models": [str(probe.path) for probe in probes],
                "sha256s": [sha256(probe.path) for probe in probes],
                "engine": cfg.engine.model_dump(),
                "affinity": cfg.affinity,
                "threads": cfg.first_threads,
                "duration_s": cfg.ceilings.duration_s,
                "copy_bytes": [1000 * size for size in cfg.ceilings.copy_kb],
            }
        )
    rates = [
        Rate(
            graph=probe.graph,
            precision=probe.precision,
            gmac_per_s=probe.macs / seconds / 1e9,
        )
        for probe, seconds in zip(probes, answer["seconds"], strict=True)
    ]
    best = {
        precision: max(r.gmac_per_s for r in rates if r.precision == precision)
        for precision in ("fp32", "int8")
    }
    return Ceilings(
        identity=identity(cfg),
        threads=answer["threads"],
        engine=answer["engine"],
        host=answer["host"],
        copy_points=[
            CopyPoint(bytes=point["bytes"], gb_per_s=point["bytes_per_s"] / 1e9)
            for point in answer["copy"]
        ],
        fp32_gmac_per_s=best["fp32"],
        int8_gmac_per_s=best["int8"],
        rates=rates,
    )


def run(cfg: DeviceCeilingsConfig, *, out: Path) -> dict[str, float]:
    """Measure a device's ceilings and write them to `out`; see `measure`."""
    record = measure(cfg)
    record.write(out)
    log.info(
        "%s, %d thread(s): fp32 %.0f GMAC/s, INT8 %.0f GMAC/s, copies %s GB/s",
        cfg.name,
        record.threads,
        record.fp32_gmac_per_s,
        record.int8_gmac_per_s,
        ", ".join(f"{p.gb_per_s:.1f} at {p.bytes / 1e6:g} MB" for p in record.copy_points),
    )
    return {
        "fp32_gmac_per_s": record.fp32_gmac_per_s,
        "int8_gmac_per_s": record.int8_gmac_per_s,
        **{f"copy_gb_per_s_{p.bytes // 1000}kb": p.gb_per_s for p in record.copy_points},
    }


def read(path: Path, cfg: ProfileConfig) -> Ceilings:
    """Read ceilings that fit a device's configuration.

    Raises
    ------
    UserError
        If they were measured with another engine or other threads.
    """
    record, wanted = Ceilings.read(path), identity(cfg.of_ceilings)
    if record.identity != wanted:
        differ = [key for key in wanted if record.identity.get(key) != wanted[key]]
        raise UserError(
            f"{path} holds the ceilings of another set-up than config/profile/{cfg.name}.yaml "
            f"(with the overrides of this run): {', '.join(differ)} differ. Delete the "
            "file, so that it is measured again, or let all runs of the device share these keys."
        )
    return record
