"""What a page needs to run onnxruntime-web."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from edgeward.core.errors import UserError

READS = ("agent.js",)  # served as a file: see edgeward.pipeline.closure
PARTS = ("ort.wasm.bundle.min.mjs", "ort-wasm-simd-threaded.wasm")

AGENT = Path(__file__).with_name("agent.js")


def package_files(settings: dict[str, Any]) -> dict[str, Path]:
    """Return the files of the npm package, by the path below the engine's own at which `agent.js` looks for them.

    Raises
    ------
    UserError
        If the package is not there.
    """
    folder = Path(settings["package"])
    found = {f"ort/{name}": folder / "dist" / name for name in PARTS}
    if missing := [path for path in found.values() if not path.is_file()]:
        raise UserError(
            f"`engine.package` = {folder}: {missing[0].name} is not there. `tools/onnxruntime_web.sh` fetches onnxruntime-web "
            "by its lock; another folder: change it in config/profile/."
        )
    return found
