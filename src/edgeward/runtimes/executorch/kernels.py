"""The operators of ExecuTorch: XNNPACK's, and the portable ones outside of it."""

from __future__ import annotations

from edgeward.runtimes.kernels import KernelNames

NAMES = KernelNames(
    convolutions={"Convolution": 1, "Fully Connected": 1},
    transposed={"Deconvolution"},
    products={"Batch Matrix Multiply", "bmm", "mm"},
    to_float={"dequantize_per_tensor", "dequantize_per_channel"},
    conversions={"Convert", "quantize_per_tensor", "_to_dim_order_copy"},
    layout={"Transpose", "Copy", "Static Reshape", "permute_copy", "view_copy", "clone"},
    views={"Static Reshape", "view_copy"},
    pickers={"Slice", "slice_copy", "select_copy", "index"},
    unknown={"convolution", "addmm"},
    delegates={"XNNPACK"},
)
