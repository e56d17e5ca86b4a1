"""The operators of onnxruntime."""

from __future__ import annotations

from edgeward.runtimes.kernels import KernelNames

NAMES = KernelNames(
    convolutions={
        "Conv": 1, "FusedConv": 1, "NhwcFusedConv": 1, "ConvInteger": 1, "ConvIntegerToFloat": 1,
        "QLinearConv": 3,
    },
    transposed={"ConvTranspose"},
    products={
        "MatMul", "FusedMatMul", "MatMulInteger", "MatMulIntegerToFloat", "DynamicQuantizeMatMul",
        "QLinearMatMul",
    },
    gemms={"Gemm", "FusedGemm", "QGemm"},
    integer={
        "QLinearConv", "ConvInteger", "ConvIntegerToFloat", "QGemm", "QLinearMatMul", "MatMulInteger",
        "MatMulIntegerToFloat", "DynamicQuantizeMatMul",
    },
    to_float={"DequantizeLinear"},
    conversions={"QuantizeLinear", "DynamicQuantizeLinear", "Cast"},
    layout={
        "Reshape", "Flatten", "Squeeze", "Unsqueeze", "Transpose", "ReorderInput", "ReorderOutput",
    },
    views={"Reshape", "Flatten", "Squeeze", "Unsqueeze", "Identity", "Shape", "Size"},
    pickers={"Slice", "Gather", "GatherElements", "GatherND"},
    loops={"Scan", "Loop", "If"},
    recurrences={"LinearAttention"},
    unknown={
        "Attention", "DecoderMaskedMultiHeadAttention", "DeformConv", "Einsum", "GRU",
        "GroupQueryAttention", "LinearAttention", "LSTM", "MultiHeadAttention", "PackedAttention",
        "RNN",
    },
    recurrence_advice="Use a state-space layer with a decay per head of 32 channels or more, which onnxruntime "
    "runs as one LinearAttention kernel, or a chunked form made of matrix products.",
)  # fmt: skip
