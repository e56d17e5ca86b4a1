"""Low-rank factorisation of convolutions and linear layers; then fine-tuning."""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal

from pydantic import Field

from edgeward.compression.step import Step
from edgeward.core.errors import UserError
from edgeward.training.config import FinetuneConfig

if TYPE_CHECKING:
    from edgeward.compression.workpiece import Workpiece


class LowRank(Step):
    """Each layer becomes two thinner ones where that saves multiplications."""

    step: Literal["low_rank"]
    rank_by: Literal["energy", "macs"] = Field(
        "macs",
        description="How ranks are chosen. energy: each layer keeps the share `level` of its squared singular values. macs: one energy "
        "for all layers, such that the share `level` of the network's multiplications is left.",
    )
    level: float = Field(gt=0, lt=1, description="Share of what `rank_by` says that is left.")
    round_to: int = Field(
        8,
        ge=1,
        description="Ranks are rounded up to a multiple of this: 4 or 8 fill the vector registers of the device.",
    )
    keep_whole: list[str] = Field(
        [], description="Modules that are left alone, by exact name (of a block: everything in it)."
    )
    finetune: FinetuneConfig | None = Field(
        FinetuneConfig(), description="null: factorise and do not train."
    )

    def apply(self, piece: Workpiece) -> None:
        """Replace layers of the module by pairs of layers."""
        import copy

        from edgeward.compression import lowrank
        from edgeward.compression.cost import macs
        from edgeward.compression.layers import weighted_layers
        from edgeward.compression.tuning import tune

        module = copy.deepcopy(piece.module)
        layers = weighted_layers(module, self.keep_whole, "keep_whole")
        found, refused = lowrank.decompose(module, layers, piece.example)
        if self.rank_by == "energy":
            energy = self.level
            ranks = lowrank.ranks_for_energy(found, energy, self.round_to)
        else:
            total = macs(module, piece.example)
            ranks, energy = lowrank.ranks_for_macs(found, total, self.level, self.round_to)
        if not ranks:
            raise UserError(
                f"low_rank: with {self.rank_by} {self.level} (round_to {self.round_to}) no layer of this "
                "network gets cheaper; lower compress.steps[..].level."
            )
        errors = {name: found[name].error(rank) for name, rank in ranks.items()}
        dense = dict.fromkeys(found.keys() - ranks.keys(), "no saving at this energy")
        lowrank.replace(module, found, ranks)
        # train() drops what the network has cached when it was run (attention biases).
        piece.module = module.train().eval()
        piece.effect = {
            "energy": energy,
            "ranks": {name: [len(found[name].values), rank] for name, rank in ranks.items()},
            "relative_errors": errors,
            "layers_kept": refused | dict(sorted(dense.items())),
        }
        if self.finetune is not None:
            tune(piece, module, self.finetune)
