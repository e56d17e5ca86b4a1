"""Weight gradients of convolutions whose kernel is larger than their input, where oneDNN, PyTorch's library on CPUs, fails.

The last stages of a network have such maps (stride 32: 2 x 2 at 64 pixels, 4 x 4 at 128).

- Depthwise, float32: oneDNN has fast kernels only where the input is at least as large as the kernel; below it takes its
  reference code, ten to fifteen times slower. In MobileNetV3-Small at 64 pixels this gradient alone is half of a training
  step. Here it is a sum over shifted copies.
- bfloat16: the gradient that oneDNN returns can be memory that was never written (torch 2.15 on a processor with AVX512-BF16: 2 x 2 x 2 with a
  kernel of 3, 1 x 1 with stride 2), so that a training has NaN after some steps. Here such a layer computes in float32.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
import torch.nn.functional as F
from torch.overrides import TorchFunctionMode

aten = torch.ops.aten
NAMES = ("input", "weight", "bias", "stride", "padding", "dilation", "groups")
Pair = tuple[int, int]


CONVOLUTIONS = (torch.conv2d, torch.conv3d, aten.conv2d.default, aten.conv3d.default)


class SmallMaps(TorchFunctionMode):
    """Within this context, convolutions of modules and of exported programs take these gradients.

    In float32, values of the forward pass are those of ``conv2d`` and ``conv3d``, bit for bit; gradients of weights differ by the order of a sum.
    """

    def __torch_function__(
        self,
        func: Callable[..., Any],
        types: Any,
        args: tuple[Any, ...] = (),
        kwargs: dict[str, Any] | None = None,
    ) -> Any:
        """Call `func`, or for a convolution of a small map what stands for it."""
        kwargs = kwargs or {}
        if func in CONVOLUTIONS:
            call = {**dict(zip(NAMES, args, strict=False)), **kwargs}
            if _small(call):
                return _convolve(func, call)
        return func(*args, **kwargs)


def _convolve(func: Callable[..., Any], call: dict[str, Any]) -> torch.Tensor:
    if torch.is_autocast_enabled("cpu"):
        parts = {k: v.float() if isinstance(v, torch.Tensor) else v for k, v in call.items()}
        with torch.autocast("cpu", enabled=False):
            return _convolve(func, parts)
    if not _depthwise(call):
        return func(**call)
    return _Depthwise.apply(
        call["input"],
        call["weight"],
        call.get("bias"),
        _pair(call.get("stride", 1)),
        _pair(call.get("padding", 0)),
    )


def _small(call: dict[str, Any]) -> bool:
    x, weight = call["input"], call["weight"]
    axes = weight.ndim - 2
    dilation = call.get("dilation", 1)
    steps = (dilation,) * axes if isinstance(dilation, int) else dilation
    return (
        torch.is_grad_enabled()
        and weight.requires_grad
        and x.device.type == "cpu"
        and any(
            n <= (k - 1) * step
            for n, k, step in zip(x.shape[-axes:], weight.shape[2:], steps, strict=True)
        )
    )


def _depthwise(call: dict[str, Any]) -> bool:
    x, weight = call["input"], call["weight"]
    return (
        x.ndim == 4
        and call.get("groups", 1) == x.shape[1] == weight.shape[0]
        and not isinstance(call.get("padding", 0), str)
        and _pair(call.get("dilation", 1)) == (1, 1)
    )


class _Depthwise(torch.autograd.Function):
    """``conv2d`` with as many groups as channels, its weight gradient from `weight_gradient`."""

    @staticmethod
    def forward(
        ctx: Any,
        x: torch.Tensor,
        weight: torch.Tensor,
        bias: torch.Tensor | None,
        stride: Pair,
        padding: Pair,
    ) -> torch.Tensor:
        ctx.save_for_backward(x, weight)
        ctx.stride, ctx.padding = stride, padding
        return aten.conv2d.default(x, weight, bias, stride, padding, (1, 1), x.shape[1])

    @staticmethod
    @torch.autograd.function.once_differentiable
    def backward(ctx: Any, *grads: torch.Tensor) -> tuple[torch.Tensor | None, ...]:
        (grad,), (x, weight) = grads, ctx.saved_tensors
        of_x, _, of_bias, *_ = ctx.needs_input_grad
        groups = x.shape[1]
        to_x = aten.convolution_backward(
            grad,
            x,
            weight,
            [groups],
            ctx.stride,
            ctx.padding,
            (1, 1),
            False,
            (0, 0),
            groups,
            (of_x, False, of_bias),
        )
        to_weight = weight_gradient(x, grad, weight.shape[2:], ctx.stride, ctx.padding)
        return to_x[0], to_weight, to_x[2], None, None


def weight_gradient(
    x: torch.Tensor, grad: torch.Tensor, kernel: torch.Size | Pair, stride: Pair, padding: Pair
) -> torch.Tensor:
    """Return the gradient (c, 1, kh, kw) of a depthwise convolution's weight.

    ``sum_b,i,j x[b, c, i * sh + u - ph, j * sw + v - pw] * grad[b, c, i, j]`` for every tap (u, v): the products
    of a shifted copy and the gradient, with channels innermost.

    Parameters
    ----------
    x : input (b, c, h, w) of the convolution, float.
    grad : gradient (b, c, oh, ow) of its output.
    """
    (kh, kw), (sh, sw), (ph, pw) = kernel, stride, padding
    height, width = grad.shape[2:]
    grad = grad.contiguous(memory_format=torch.channels_last)
    padded = F.pad(x.contiguous(memory_format=torch.channels_last), (pw, pw, ph, ph))
    taps = [
        (padded[:, :, u : u + (height - 1) * sh + 1 : sh, v : v + (width - 1) * sw + 1 : sw] * grad)
        .sum((0, 2, 3))
        for u in range(kh)
        for v in range(kw)
    ]  # fmt: skip
    return torch.stack(taps, dim=1).reshape(-1, 1, kh, kw)


def _pair(value: Any) -> Pair:
    """Return one number, or one or two in a sequence, as (height, width)."""
    values = (value,) if isinstance(value, int) else tuple(value)
    return (values[0], values[-1])
