"""What a runtime in another folder goes through; `test_runtimes_toy` runs it in a process of its own."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import onnx
from profiling_models import host_quick, small_model

import edgeward
from edgeward.pipeline.closure import Closure
from edgeward.profiling import stage
from edgeward.runtimes.session import open_session


def main(folder: Path) -> None:
    cfg = host_quick(engine={"name": "toy"}, min_duration_s=0.01, min_count=2, max_duration_s=0.5)
    own, foreign = folder / "own.onnx", folder / "foreign.onnx"
    model = small_model()
    onnx.save(model, own)
    gelu = onnx.helper.make_node("QuickGelu", ["logits"], ["y"], domain="com.microsoft")
    model.graph.node.append(gelu)
    model.graph.output[0].name = "y"
    model.opset_import.append(onnx.helper.make_opsetid("com.microsoft", 1))
    onnx.save(model, foreign)
    for path in (own, foreign):
        stage.run(cfg, model=path, out=path.with_suffix(".json"))
    library = Path(str(edgeward.__file__)).parent
    scripts = library.parents[1] / "workflow" / "scripts"
    closure = Closure(library)
    watched = {
        stage: [
            path.name for path in closure.of(scripts / f"{stage}.py") if path.parent.name == "toy"
        ]
        for stage in ("prepare", "assess", "profile")
    }
    found = {
        "shape": open_session(own, 1, runtime="toy").shape,
        "engine": cfg.engine.model_dump(),
        "watched": watched,
    }
    (folder / "found.json").write_text(json.dumps(found))


main(Path(sys.argv[1]))
