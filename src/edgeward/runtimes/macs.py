"""How many products a layer adds up.

A multiply-accumulate (MAC) is one product added to a sum, as in the published counts ("FLOPs" of
MobileOne, "MACs" of EfficientFormerV2). Counted are convolutions and matrix products; additions of
a bias, norms, activations and pooling are not.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

Shape = Sequence[int]


def conv_macs(output: Shape, weight: Shape) -> int:
    """MACs of a convolution: every output element sums (c_in / groups) * kh * kw products.

    `weight` is (c_out, c_in / groups, k...); `output` may have its channels anywhere.
    """
    return math.prod(output) * math.prod(weight[1:])


def transposed_conv_macs(data: Shape, weight: Shape) -> int:
    """MACs of a transposed convolution; `weight` is (c_in, c_out / groups, k...)."""
    return math.prod(data) * math.prod(weight[1:])


def matmul_macs(output: Shape, inner: int) -> int:
    """MACs of a matrix product that sums over `inner` elements."""
    return math.prod(output) * inner


def linear_attention_macs(query: Shape, value: Shape, query_heads: int) -> int:
    """MACs of a gated linear recurrence over tokens.

    Every token adds the outer product of its key and value to a state (d_k, d_v) per head and reads
    it with its query: 2 * d_k * d_v. The decay multiplies and adds nothing, so it is not counted.

    Parameters
    ----------
    query : (batch, tokens, query_heads * d_k). `value` : (batch, tokens, heads * d_v).
    """
    return 2 * math.prod(value) * query[-1] // query_heads
