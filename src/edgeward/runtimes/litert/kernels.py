"""The operators of LiteRT."""

from __future__ import annotations

from edgeward.runtimes.kernels import KernelNames

NAMES = KernelNames(
    convolutions={"CONV_2D": 1, "CONV_3D": 1, "FULLY_CONNECTED": 1},
    depthwise={"DEPTHWISE_CONV_2D": 1},
    products={"BATCH_MATMUL"},
    to_float={"DEQUANTIZE"},
    conversions={"QUANTIZE", "CAST"},
    layout={"RESHAPE", "TRANSPOSE", "SQUEEZE", "EXPAND_DIMS"},
    views={"RESHAPE", "SQUEEZE", "EXPAND_DIMS"},
    pickers={"SLICE", "STRIDED_SLICE", "GATHER"},
    loops={"WHILE", "IF"},
    unknown={"TRANSPOSE_CONV"},
    delegates={"XNNPACK"},
)
