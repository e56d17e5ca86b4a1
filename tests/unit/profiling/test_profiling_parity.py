"""Whether an engine that computes something else is noticed before its times are believed."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
import pytest
from profiling_models import SIZE
from shipped import shipped

from edgeward.profiling import parity
from edgeward.runtimes.tolerance import DeviceParityConfig
from edgeward.statistics.decisions import margin


@pytest.fixture
def cfg() -> DeviceParityConfig:
    return DeviceParityConfig(**shipped("profile", "host")["parity"])


@pytest.fixture
def logits() -> np.ndarray:
    return np.random.default_rng(0).normal(0, 3, (16, 7))


def test_images_are_seeded_whole_and_varied() -> None:
    first = parity.images(8, (3, 40, 32), (0, 255), 1)
    assert first.dtype == np.uint8
    assert first.shape == (8, 3, 40, 32)
    np.testing.assert_array_equal(first, parity.images(8, (3, 40, 32), (0, 255), 1))
    assert (first != parity.images(8, (3, 40, 32), (0, 255), 2)).any()
    assert first.mean((1, 2, 3)).std() > 10  # brightness differs between images
    neighbours = np.corrcoef(first[:, :, :, 1:].ravel(), first[:, :, :, :-1].ravel())[0, 1]
    assert neighbours > 0.7  # white noise would have 0
    assert parity.images(1, (1, 2, 2), (0, 1), 0).max() <= 1


def test_reference_engine_is_the_one_that_torch_free_code_has(fp32_model: Path) -> None:
    inputs = parity.images(3, (3, SIZE, SIZE), (0, 255), 0)
    logits = parity.reference_logits(fp32_model, inputs)
    assert logits.shape == (3, 5)
    assert logits.dtype == np.float64


def test_rounding_passes_and_lower_precision_does_not(
    logits: np.ndarray, cfg: DeviceParityConfig
) -> None:
    # Largest error as a share of the spread, measured on trained MobileOne-S0 and
    # EfficientFormerV2-S0: 3e-6 in fp32 with either engine, 1e-2 to 6e-2 with OpenVINO in bf16.
    spread = logits.std()
    rng = np.random.default_rng(1)
    for share, passes in ((3e-6, True), (1e-2, False), (6e-2, False)):
        found = logits + share * spread * rng.uniform(-1, 1, logits.shape)
        result = parity.compare(logits, found, "fp32", cfg)
        assert result.passed is passes, share
        assert bool(result.reasons) is not passes
        assert result.max_abs is not None
        assert result.max_abs <= share * spread
    assert "lower precision" in result.reasons[0]


def test_int8_is_judged_on_its_mean_error(logits: np.ndarray, cfg: DeviceParityConfig) -> None:
    # Mean error as a share of the spread, same models quantised: at most 7e-3, with single errors
    # up to 0.1 where a level is rounded apart.
    spread = logits.std()
    found = logits.copy()
    found[3, 2] += 0.1 * spread
    assert parity.compare(logits, found, "int8", cfg).passed
    assert not parity.compare(logits, found, "fp32", cfg).passed
    result = parity.compare(logits, logits + 0.03 * spread, "int8", cfg)
    assert "mean logit error" in result.reasons[0]


def test_int8_may_differ_by_what_rounding_does_to_the_network_anyway(
    logits: np.ndarray, cfg: DeviceParityConfig
) -> None:
    spread = logits.std()
    found = logits + 0.03 * spread
    steady = parity.compare(logits, found, "int8", cfg, 0.025 * spread)
    assert not steady.passed
    assert steady.limit == pytest.approx(0.025 * spread)
    nervous = parity.compare(logits, found, "int8", cfg, 0.05 * spread)
    assert nervous.passed
    assert nervous.limit == pytest.approx(0.05 * spread)
    assert nervous.sensitivity == 0.05 * spread
    # An engine that computes something else does not pass, however nervous the network.
    assert not parity.compare(logits, logits + 0.11 * spread, "int8", cfg, 10 * spread).passed
    assert not parity.compare(logits, found, "fp32", cfg, 10 * spread).passed


def test_sensitivity_is_the_mean_change_of_the_logits(tmp_path: Path) -> None:
    # Logits that are the pixels change by |U(-a, a)|, on average a / 2; seven times as large ones by 7 a / 2.
    inputs = parity.images(4, (3, SIZE, SIZE), (0, 255), 0)
    for gain in (1.0, 7.0, 0.0):
        path = tmp_path / f"{gain}.onnx"
        onnx.save(_times(gain), path)
        reference = parity.reference_logits(path, inputs)
        moved = parity.sensitivity(path, inputs, reference, 0.5)
        assert moved == pytest.approx(gain * 0.25, rel=0.02)
        assert moved == parity.sensitivity(path, inputs, reference, 0.5)


def _times(gain: float) -> onnx.ModelProto:
    shape = ["n", 3, SIZE, SIZE]
    value = onnx.helper.make_tensor_value_info
    graph = onnx.helper.make_graph(
        [onnx.helper.make_node("Mul", ["image", "gain"], ["logits"])],
        "times",
        [value("image", onnx.TensorProto.FLOAT, shape)],
        [value("logits", onnx.TensorProto.FLOAT, shape)],
        [onnx.numpy_helper.from_array(np.float32(gain), "gain")],
    )
    opsets = [onnx.helper.make_opsetid("", 20)]
    return onnx.helper.make_model(graph, opset_imports=opsets, ir_version=10)


def test_a_pixel_of_thousands_may_be_decided_otherwise_but_no_image(
    cfg: DeviceParityConfig,
) -> None:
    clear = np.stack([np.full((2, 64, 64), 9.0), np.full((2, 64, 64), -9.0)], axis=1)
    for flipped, passes in ((1, True), (8, True), (9, False)):  # of 8,192; 0.1 % are 8
        found = np.where(np.arange(8192).reshape(2, 1, 64, 64) < flipped, -clear, clear)
        result = parity.compare(clear, found, "int8", cfg)
        assert result.decided is not None
        assert result.decided.n == 8192
        assert result.passed is passes, flipped
    images = np.array([[9.0, -9.0]] * 200)
    found = images.copy()
    found[0] *= -1
    reasons = parity.compare(images, found, "int8", cfg).reasons
    assert len(reasons) == 1
    assert "decides 99.50% of 200 clear images" in reasons[0]


def test_clear_images_have_to_be_decided_alike(logits: np.ndarray, cfg: DeviceParityConfig) -> None:
    clear = int(np.argmax(margin(logits)))
    found = logits.copy()
    order = np.argsort(found[clear])
    found[clear, order[[-1, -2]]] = found[clear, order[[-2, -1]]]
    loose = cfg.model_copy(update={"int8": cfg.int8.model_copy(update={"mean_to_spread": 0.05})})
    result = parity.compare(logits, found, "int8", loose)
    assert result.mean_abs is not None
    assert result.limit is not None
    assert result.mean_abs <= result.limit
    assert result.agreement == pytest.approx(15 / 16)
    assert len(result.reasons) == 1
    assert "clear images" in result.reasons[0]


@pytest.mark.parametrize("broken", [np.full((16, 7), np.nan), np.zeros((15, 7))])
def test_garbage_does_not_pass(
    broken: np.ndarray, logits: np.ndarray, cfg: DeviceParityConfig
) -> None:
    for precision in ("fp32", "int8"):
        result = parity.compare(logits, broken, precision, cfg)
        assert not result.passed
        assert "not finite" in result.reasons[0]
