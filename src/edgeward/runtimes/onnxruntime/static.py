"""INT8 from a finished ONNX file, by onnxruntime's own static quantizer: quantize/dequantize pairs, ranges from images."""

from __future__ import annotations

import tempfile
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
from onnxruntime.quantization import (
    CalibrationDataReader,
    CalibrationMethod,
    QuantFormat,
    QuantType,
    quantize_static,
)
from onnxruntime.quantization.shape_inference import quant_pre_process

from edgeward.core.errors import UserError
from edgeward.runtimes.onnxruntime.given import Given

METHODS = {
    "minmax": CalibrationMethod.MinMax,
    "entropy": CalibrationMethod.Entropy,
    "percentile": CalibrationMethod.Percentile,
}


class _Reader(CalibrationDataReader):
    """Hands images to the quantizer, one inference at a time."""

    def __init__(self, given: Given, images: Iterable[np.ndarray]) -> None:
        self._feeds = self._fed(given, images)

    @staticmethod
    def _fed(given: Given, images: Iterable[np.ndarray]) -> Iterator[dict[str, np.ndarray]]:
        for batch in images:
            for start in range(0, len(batch), given.batch or len(batch)):
                part = batch[start : start + (given.batch or len(batch))]
                full = np.resize(part, (given.batch or len(part), *part.shape[1:]))
                yield {given.image.name: given.enter(full)}

    def get_next(self) -> dict[str, np.ndarray] | None:
        return next(self._feeds, None)


def quantize(
    given: Given,
    images: Iterable[np.ndarray],
    to: Path,
    *,
    method: str,
    per_channel: bool,
    reduce_range: bool,
    operators: list[str] | None,
) -> None:
    """Write a file with INT8 weights and activations.

    Parameters
    ----------
    given : in float. images : float32 (b, c, h, w), 0-255, a batch at a time.
    method : how ranges of activations are chosen, a key of `METHODS`.
    reduce_range : weights of 7 bits. operators : types that are quantized; None: all that the quantizer knows.

    Raises
    ------
    UserError
        If the quantizer cannot read the file.
    """
    options: dict[str, Any] = {} if operators is None else {"op_types_to_quantize": operators}
    with tempfile.TemporaryDirectory() as folder:
        inferred = Path(folder) / "inferred.onnx"
        try:
            quant_pre_process(str(given.path), str(inferred), skip_symbolic_shape=True)
            quantize_static(
                str(inferred),
                str(to),
                _Reader(given, images),
                quant_format=QuantFormat.QDQ,
                activation_type=QuantType.QUInt8,
                weight_type=QuantType.QInt8,
                calibrate_method=METHODS[method],
                per_channel=per_channel,
                reduce_range=reduce_range,
                **options,
            )
        except Exception as error:  # the quantizer has no errors of its own
            reason = (str(error).strip() or type(error).__name__).splitlines()[0]
            raise UserError(
                f"onnxruntime cannot quantize {given.path}: {reason}. Name fewer operators (quantize.operators, config/compress/), or "
                "judge a file that another tool has quantized."
            ) from error
