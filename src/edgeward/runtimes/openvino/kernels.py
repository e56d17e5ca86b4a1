"""The layers of OpenVINO."""

from __future__ import annotations

from edgeward.runtimes.kernels import KernelNames

NAMES = KernelNames(
    convolutions={"Convolution": 1},
    transposed={"Deconvolution"},
    products={"MatMul", "FullyConnected"},
    conversions={"FakeQuantize", "Convert"},
    layout={"Reshape", "Squeeze", "Unsqueeze", "Transpose", "Reorder"},
    views={"Reshape", "Squeeze", "Unsqueeze", "Identity"},
    pickers={"Gather", "GatherElements", "GatherND", "Slice"},
    loops={"Loop", "If"},
    unknown={
        "Einsum", "MHA", "RNN", "ScaledDotProductAttention", "Subgraph",
    },
)  # fmt: skip
