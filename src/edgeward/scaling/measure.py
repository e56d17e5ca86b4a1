"""Stage ``scaling``, second half: profile the file of one size. No torch here."""

from __future__ import annotations

from pathlib import Path

from edgeward.core.errors import UserError
from edgeward.core.io import sha256
from edgeward.profiling.config import ProfileConfig
from edgeward.profiling.stage import run as profile
from edgeward.records.scaling import Build, Unmeasured


def run(
    cfg: ProfileConfig, *, build: Path, model: Path, out: Path, ceilings: Path | None = None
) -> dict[str, float]:
    """Write the profile of `model`, or why there is none.

    Parameters
    ----------
    build : ``build.json`` of one size. model : its ``model.onnx``.
    out : the JSON to write, ``{device}.json``: a profile, or why there is none where the
        network cannot take the size.
    ceilings : the device's, for the roofline; None leaves it out.

    Raises
    ------
    UserError
        If the file is not the one that was exported, or as `edgeward.profiling.stage.run`.
    """
    facts = Build.read(build)
    if facts.status == "refused":
        Unmeasured(status="refused", reason=facts.reason).write(out)
        return {"refused": 1.0}
    if not model.is_file() or sha256(model) != facts.sha256:
        raise UserError(
            f"{model} is missing, or is not the file that {build} describes; delete {build} and "
            "run again."
        )
    return {"refused": 0.0, **profile(cfg, model=model, out=out, ceilings=ceilings)}
