"""A model on a device as a session, with the real agent in a process of its own."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from profiling_models import CLASSES, SIZE, host_quick
from refusals import naming

from edgeward.core.errors import UserError
from edgeward.profiling import deciding, parity
from edgeward.profiling.deciding import DeviceSession
from edgeward.profiling.transport import open_device
from edgeward.runtimes.session import open_session


@pytest.mark.parametrize("engine", ["onnxruntime", "openvino"])
def test_a_device_answers_as_its_engine_does_here(
    fp32_model: Path, engine: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    if engine == "openvino":
        pytest.importorskip("openvino", reason="the second engine is an extra")
    settings = (
        {}
        if engine == "onnxruntime"
        else {"engine": {"name": "openvino", "device": "CPU", "precision": "f32"}}
    )
    images = parity.images(9, (3, SIZE, SIZE), (0, 255), 3).astype(np.float32)
    here = open_session(fp32_model, 1)
    monkeypatch.setattr(deciding, "REQUEST", 4 * 3 * SIZE * SIZE)
    cfg = host_quick(**settings)
    with open_device(cfg) as device:
        session = DeviceSession(cfg, device, fp32_model)
        assert session.batch == 4
        assert session.shape == (3, SIZE, SIZE)
        assert session.metadata() == here.metadata()
        found = session.run(images)
    assert session.engine[0] == engine
    assert session.engine[1]
    assert found.shape == (9, CLASSES)
    assert found.dtype == np.float32
    np.testing.assert_allclose(found, here.run(images), rtol=1e-3, atol=1e-3)


def test_images_that_are_not_of_whole_grey_levels_are_refused(fp32_model: Path) -> None:
    cfg = host_quick()
    with (
        open_device(cfg) as device,
        pytest.raises(UserError, match=naming("host_quick", "decide_on")),
    ):
        DeviceSession(cfg, device, fp32_model).run(np.full((1, 3, SIZE, SIZE), 0.5, np.float32))
