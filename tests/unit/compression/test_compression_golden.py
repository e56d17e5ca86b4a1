"""What onnxruntime executes of the default sweep's models in INT8, against the histograms on record.

A change here is a change of speed. If it is meant, write the new histogram into tests/golden/.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import timm
import torch
from compression_nets import executed, onnx_of, run, session

from edgeward.compression import backend, numerics
from edgeward.compression.fusion import fuse
from edgeward.core.io import read_json
from edgeward.models.deploy import Deployable, reparameterize
from edgeward.models.program import export_program
from edgeward.runtimes.onnxruntime.quantizer import OnnxRuntimeQuantizer

GOLDEN = Path(__file__).resolve().parents[2] / "golden"
# How data is laid out between kernels depends on the processor.
LAYOUT = {"Transpose", "ReorderInput", "ReorderOutput"}


@pytest.mark.parametrize(
    ("name", "options"), [("mobileone_s0", {}), ("efficientformerv2_s0", {"img_size": 64})]
)
def test_executed_operators(name: str, options: dict[str, int], tmp_path: Path) -> None:
    torch.manual_seed(0)
    torch.set_num_threads(1)
    net = timm.create_model(name, num_classes=7, **options)
    module = Deployable(net, [0.7, 0.5, 0.5], [0.2, 0.2, 0.2])
    images = torch.rand(16, 3, 64, 64) * 255
    with torch.no_grad():
        for norm in module.modules():
            if isinstance(norm, torch.nn.BatchNorm2d):
                norm.momentum = 1.0
        module.train()(images)
    single, _ = fuse(reparameterize(module.eval()), images[:2])
    graph = backend.capture(single, images[:2])
    prepared = backend.prepare_ptq(
        graph,
        images[:2],
        observer="minmax",
        reduce_range=OnnxRuntimeQuantizer.saturates(),
        granularity="per_channel",
        keep_float=[],
    )
    with torch.no_grad():
        prepared(images)
    converted = backend.convert(prepared)
    numerics.quantize_biases(converted)
    path = onnx_of(export_program(converted, images[:2]), images[:2], tmp_path / "model.onnx")
    found = {kind: n for kind, n in executed(path).items() if kind not in LAYOUT}
    assert found == read_json(GOLDEN / f"compress_{name}_int8.json")
    with torch.no_grad():
        simulated = converted(images).numpy()
    shipped = run(session(path), images.numpy())
    # Where one value is rounded the other way, an untrained net gives other logits; most images agree.
    apart = abs(shipped - simulated).mean(axis=1)
    assert np.median(apart) < 0.01 * simulated.std()
