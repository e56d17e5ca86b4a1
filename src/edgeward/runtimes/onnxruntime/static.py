"""INT8 from a finished ONNX file, by onnxruntime's own static quantizer: quantize/dequantize pairs, ranges from images."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator
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

METHODS = {
    "minmax": CalibrationMethod.MinMax,
    "entropy": CalibrationMethod.Entropy,
    "percentile": CalibrationMethod.Percentile,
}


class _Reader(CalibrationDataReader):
    """Hands the quantizer one inference after the other."""

    def __init__(self, feeds: Iterator[dict[str, np.ndarray]]) -> None:
        self._feeds = feeds

    def get_next(self) -> dict[str, np.ndarray] | None:
        return next(self._feeds, None)


def quantize(
    path: Path,
    feeds: Iterator[dict[str, np.ndarray]],
    to: Path,
    *,
    method: str,
    per_channel: bool,
    reduce_range: bool,
    operators: list[str] | None,
) -> None:
    """Write a file with INT8 weights and activations; `edgeward.runtimes.base.Given.quantized` says what of.

    Parameters
    ----------
    path : in float. feeds : what the engine is given, an inference at a time. method : a key of `METHODS`.
    """
    options: dict[str, Any] = {} if operators is None else {"op_types_to_quantize": operators}
    with tempfile.TemporaryDirectory() as folder:
        inferred = Path(folder) / "inferred.onnx"
        try:
            quant_pre_process(str(path), str(inferred), skip_symbolic_shape=True)
            quantize_static(
                str(inferred),
                str(to),
                _Reader(feeds),
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
                f"onnxruntime cannot quantize {path}: {reason}. Name fewer operators (quantize.operators, config/compress/), or "
                "judge a file that another tool has quantized."
            ) from error
