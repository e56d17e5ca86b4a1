"""The recurrence of Mamba-2 in matrix products that engines without an operator for it run fast.

As `edgeward.models.ssm.gated.chunked`, arranged for them: products have three dimensions, no tensor more than five, queries
meet keys once per group and not once per head, and a decay that must be zero is exp of a large negative number, which the sums
get as the bias of the product that makes them. Each sum of decays runs over its own segment: differences of one running sum
would be cheaper, and lose small sums where the running sum is large. Over the chunks the cost is quadratic in their number.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

CHUNK = 32
NEVER = -1e4  # exp of it is 0
MOST = 64  # addends whose segments are one product: its weights are the third power of that


class Gated(nn.Module):
    """`edgeward.models.ssm.gated.gated_scan` of one length: (b, t, heads * p) from q, k, v, g."""

    def __init__(self, length: int, heads: int, groups: int) -> None:
        super().__init__()
        self.length, self.groups, self.each = length, groups, heads // groups
        self.chunk = min(CHUNK, length)
        self.count = -(-length // self.chunk)
        self.tokens = Segments(torch.arange(self.chunk), torch.arange(-1, self.chunk))
        numbers = torch.arange(self.count)
        self.chunks = Segments(numbers - 1, numbers)

    def _split(self, part: Tensor) -> Tensor:
        """Return (b, t, groups * size) as (b * groups, chunks, chunk, size)."""
        if pad := self.count * self.chunk - self.length:
            part = F.pad(part, (0, 0, 0, pad))
        groups = part.reshape(part.shape[0], self.count * self.chunk, self.groups, -1).transpose(
            1, 2
        )
        return groups.reshape(-1, self.count, self.chunk, groups.shape[-1])

    def _merge(self, part: Tensor) -> Tensor:
        """Return (b * groups, chunks, heads of a group, chunk, p) as (b, t, heads * p)."""
        steps = self.count * self.chunk
        groups = part.transpose(2, 3).reshape(-1, self.groups, steps, self.each * part.shape[-1])
        merged = groups.transpose(1, 2).flatten(2)
        return merged[:, : self.length] if steps > self.length else merged

    def forward(self, q: Tensor, k: Tensor, v: Tensor, g: Tensor) -> Tensor:
        count, each, chunk = self.count, self.each, self.chunk
        qs, ks = _flat(self._split(q)), _flat(self._split(k))
        values = self._split(v).unflatten(3, (each, -1))
        decays = self._split(g).transpose(2, 3)  # (b * groups, chunks, heads of a group, chunk)
        sums = self.tokens(decays).exp()
        since, fade = sums[..., :1], sums[..., 1:]
        match = torch.bmm(qs, ks.transpose(1, 2)).reshape(-1, count, 1, chunk, chunk)
        out = torch.bmm(_flat(match * fade), _flat(values.transpose(2, 3)))
        out = out.reshape(-1, count, each, chunk, values.shape[-1])
        if count > 1:
            # What a chunk adds to the state by its end, and how much of it each later chunk finds.
            to_end = fade[..., -1, :].transpose(2, 3).unsqueeze(-1)
            added = torch.bmm(ks.transpose(1, 2), _flat((values * to_end).flatten(-2)))
            added = added.reshape(-1, count, ks.shape[-1], each, values.shape[-1])
            added = added.permute(0, 3, 1, 2, 4)
            weight = self.chunks(decays.sum(-1).transpose(1, 2)).exp()
            found = torch.bmm(_flat(weight), _flat(added.flatten(-2))).reshape(added.shape)
            found = found.permute(0, 2, 3, 1, 4).flatten(-2)  # (b * groups, chunks, n, heads * p)
            outside = torch.bmm(qs, _flat(found)).reshape(values.shape).transpose(2, 3)
            out = out + outside * since
        return self._merge(out)


def _flat(part: Tensor) -> Tensor:
    return part.reshape(-1, *part.shape[-2:])


class Segments(nn.Module):
    """Sums of g (.., c) over (start, end], shape (.., c, starts); `NEVER` more where the start lies behind the end."""

    upto: Tensor
    after: Tensor
    inside: Tensor
    never: Tensor

    def __init__(self, ends: Tensor, starts: Tensor) -> None:
        super().__init__()
        self.count, self.shape = len(ends), (len(ends), len(starts))
        at = torch.arange(self.count)
        upto, after = at <= ends[:, None], at[:, None] > starts  # (ends, c), (c, starts)
        never = torch.where(starts > ends[:, None], NEVER, 0.0)
        if self.count > MOST:
            self.register_buffer("upto", upto.float())
            self.register_buffer("after", after.float())
            self.register_buffer("never", never)
        else:
            inside = upto[:, None] & after.T  # (ends, starts, c)
            self.register_buffer("inside", inside.float().flatten(0, 1))
            self.register_buffer("never", never.flatten())  # a bias must be a constant as it is

    def forward(self, g: Tensor) -> Tensor:
        if self.count > MOST:
            return (g.unsqueeze(-2) * self.upto) @ self.after + self.never
        sums = F.linear(g.reshape(-1, self.count), self.inside, self.never)
        return sums.reshape(*g.shape[:-1], *self.shape)
