"""EfficientViM: a state-space network without a scan (Lee, Choi, Kim, CVPR 2025, arXiv 2411.15241).

Its mixer, HSM-SSD, is the non-causal form of SSD (Mamba-2): every token adds to one state, with a weight that is a softmax
over the tokens, and every token reads that state. So there is no order of the tokens and no recurrence: two products of
matrices, which every engine has, at a cost that is linear in the number of tokens. What mixes channels works on the N
columns of the state instead of the L tokens (section 3.2).

Arranged for deployment: the state is kept as (N, channels), so that its projections are linear layers, which have integer
kernels; and each learned mixture of what goes into a branch and what comes out of it goes into the weights (`fuse`).
"""

from __future__ import annotations

import itertools

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from edgeward.models.dense import CONV
from edgeward.models.zoo.ssd import conv_bn

AXES = (2, 3)


class ChannelNorm(nn.LayerNorm):
    """Layer norm over the channels of (batch, channels, ...)."""

    def forward(self, x: Tensor) -> Tensor:
        return super().forward(x.movedim(1, -1)).movedim(-1, 1)


def mixed(share: Tensor, x: Tensor, y: Tensor) -> Tensor:
    """Return ``(1 - a) x + a y`` with a the sigmoid of `share`."""
    a = share.sigmoid()
    return (1 - a) * x + a * y


def shares(dim: int, share: float, axes: int) -> nn.Parameter:
    """Return shares that are learned for each channel and begin at `share`, before their sigmoid."""
    return nn.Parameter(torch.full((dim, *[1] * axes), share).logit())


class Mixture(nn.Module):
    """A branch mixed with its input, by a share learned for each channel."""

    def __init__(self, dim: int, branch: nn.Module, share: float, axes: int) -> None:
        super().__init__()
        self.branch = branch
        self.share = shares(dim, share, axes)

    def forward(self, x: Tensor) -> Tensor:
        return mixed(self.share, x, self.branch(x))


class DepthwiseMixture(Mixture):
    """A depthwise 3x3 with batch norm, mixed with its input: one depthwise convolution when fused."""

    def __init__(self, dim: int, share: float, axes: int) -> None:
        super().__init__(dim, nn.Sequential(*conv_bn(axes, dim, dim, 3, groups=dim)), share, axes)
        nn.init.zeros_(self.branch[1].weight)

    def fuse(self) -> nn.Module:
        """Return the convolution that computes the same in eval mode."""
        conv, norm = self.branch
        a = self.share.sigmoid().flatten()
        scale = a * norm.weight * (norm.running_var + norm.eps).rsqrt()
        one = (-1, *[1] * (conv.weight.ndim - 1))
        made = type(conv)(len(a), len(a), conv.kernel_size, 1, conv.padding, groups=len(a))
        with torch.no_grad():
            made.weight.copy_(conv.weight * scale.view(one))
            made.weight[(slice(None), 0, *[1] * (conv.weight.ndim - 2))] += 1 - a
            made.bias.copy_(a * norm.bias - norm.running_mean * scale)
        return made


class HiddenStateMixer(nn.Module):
    """HSM-SSD on tokens that are normalised first (section 3.2, algorithm 1); gives tokens and the state, (batch, N, channels).

    Parameters
    ----------
    dim : channels in and out. inner : channels of the gated state. states : N, its columns.
    """

    def __init__(self, dim: int, inner: int, states: int, axes: int) -> None:
        super().__init__()
        self.norm = ChannelNorm(dim)
        self.maps = nn.Sequential(
            CONV[axes](dim, 3 * states, 1, bias=False),
            CONV[axes](3 * states, 3 * states, 3, padding=1, groups=3 * states, bias=False),
        )
        self.gated = nn.Linear(dim, 2 * inner, bias=False)
        self.out = nn.Linear(inner, dim, bias=False)
        self.importance = nn.Parameter(torch.empty(states).uniform_(1, 16))
        self.skip = nn.Parameter(torch.ones(1))

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """Mix (batch, channels, *grid)."""
        tokens = self.norm(x)
        b, c, step = self.maps(tokens).flatten(2).chunk(3, dim=1)  # (batch, N, L) each
        weights = (step + self.importance[:, None]).softmax(dim=-1)
        state = (weights * b) @ tokens.flatten(2).transpose(1, 2)
        h, z = self.gated(state).chunk(2, dim=-1)
        state = self.out(h * (F.silu(z) + self.skip))
        return (state.transpose(1, 2) @ c).view_as(x), state


class Block(nn.Module):
    """Depthwise, mixer, depthwise, pointwise pair; each mixed with its input (figure 3)."""

    def __init__(
        self, dim: int, states: int, expand: float, ratio: float, share: float, axes: int
    ) -> None:
        super().__init__()
        hidden = int(dim * ratio)
        feed = [*conv_bn(axes, dim, hidden, 1), nn.ReLU(), *conv_bn(axes, hidden, dim, 1)]
        nn.init.zeros_(feed[-1].weight)
        self.before = DepthwiseMixture(dim, share, axes)
        self.mixer = HiddenStateMixer(dim, int(dim * expand), states, axes)
        self.share = shares(dim, share, axes)
        self.after = DepthwiseMixture(dim, share, axes)
        self.feed = Mixture(dim, nn.Sequential(*feed), share, axes)

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        x = self.before(x)
        read, state = self.mixer(x)
        return self.feed(self.after(mixed(self.share, x, read))), state


class Halving(nn.Module):
    """Half the resolution: an inverted residual with squeeze-and-excitation between depthwise residuals."""

    def __init__(self, dim: int, out: int, ratio: float, axes: int) -> None:
        from timm.layers import make_divisible  # timm takes seconds to load

        super().__init__()
        hidden = int(out * ratio)
        self.before = nn.Sequential(*conv_bn(axes, dim, dim, 3, groups=dim))
        self.expand = nn.Sequential(
            *conv_bn(axes, dim, hidden, 1),
            nn.ReLU(),
            *conv_bn(axes, hidden, hidden, 3, 2, hidden),
            nn.ReLU(),
        )
        conv, narrow = CONV[axes], make_divisible(hidden / 4, 8, round_limit=0.0)
        self.squeeze = nn.Sequential(
            conv(hidden, narrow, 1), nn.ReLU(), conv(narrow, hidden, 1), nn.Sigmoid()
        )
        self.narrow = nn.Sequential(*conv_bn(axes, hidden, out, 1))
        self.after = nn.Sequential(*conv_bn(axes, out, out, 3, groups=out))

    def forward(self, x: Tensor) -> Tensor:
        x = self.expand(x + self.before(x))
        pooled = x.mean(dim=tuple(range(2, x.ndim)), keepdim=True)
        x = self.narrow(x * self.squeeze(pooled))
        return x + self.after(x)


class EfficientViM(nn.Module):
    """The network; keywords as in `zoo`, of images or volumes.

    Parameters
    ----------
    dims : channels of each stage, every one at half the resolution of the one before.
    depths : blocks of each stage. states : columns of the state in each stage.
    halvings : of the stem; the paper has 4, so that stages begin at stride 16. Small images need fewer.
    expand : inner over outer channels of the state. ratio : hidden over outer channels of the pointwise pairs.
    share : what each branch begins with beside its input. The paper has a half; branches begin at zero, so each of a block's four mixtures
        then halves what passes, and short trainings do not find out of it.
    """

    def __init__(
        self,
        *,
        num_classes: int,
        in_chans: int,
        image_size: tuple[int, ...],
        drop_rate: float,
        dims: list[int],
        depths: list[int],
        states: list[int],
        halvings: int,
        expand: float,
        ratio: float,
        share: float,
    ) -> None:
        super().__init__()
        if not len(dims) == len(depths) == len(states):
            raise ValueError(
                f"dims {dims}, depths {depths} and states {states} must have one entry for each stage"
            )
        axes = len(image_size)
        widths = [in_chans, *(dims[0] // 2**k for k in range(halvings - 1, -1, -1))]
        stem: list[nn.Module] = []
        for before, width in itertools.pairwise(widths):
            stem += [*conv_bn(axes, before, width, 3, 2), nn.ReLU()]
        self.stem = nn.Sequential(*stem[:-1])
        self.stages = nn.ModuleList(
            nn.ModuleList(Block(dim, n, expand, ratio, share, axes) for _ in range(depth))
            for dim, depth, n in zip(dims, depths, states, strict=True)
        )
        self.halvings = nn.ModuleList(
            Halving(dim, out, ratio, axes) for dim, out in itertools.pairwise(dims)
        )
        # What each stage's state says, and the last features, each with a head of its own (section 3.3).
        self.norms = nn.ModuleList([*map(nn.LayerNorm, dims), ChannelNorm(dims[-1])])
        self.drop = nn.Dropout(drop_rate)
        self.heads = nn.ModuleList(nn.Linear(dim, num_classes) for dim in (*dims, dims[-1]))
        self.weights = nn.Parameter(torch.ones(len(dims) + 1))
        for head in self.heads:
            nn.init.trunc_normal_(head.weight, std=0.02)
            nn.init.zeros_(head.bias)

    def forward(self, x: Tensor) -> Tensor:
        x = self.stem(x)
        said: list[Tensor] = []
        for number, stage in enumerate(self.stages):
            if number:
                x = self.halvings[number - 1](x)
            for block in stage:
                x, state = block(x)
            said.append(self.norms[number](state).mean(dim=1))
        said.append(self.norms[-1](x).flatten(2).mean(dim=2))
        weights = self.weights.softmax(dim=0)
        logits = [
            weights[k] * head(self.drop(one))
            for k, (head, one) in enumerate(zip(self.heads, said, strict=True))
        ]
        return torch.stack(logits).sum(dim=0)


build = EfficientViM
