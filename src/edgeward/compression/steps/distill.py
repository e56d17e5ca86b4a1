"""Knowledge distillation from a larger model that the pipeline has trained on the same data."""

from __future__ import annotations

from typing import TYPE_CHECKING, ClassVar, Literal

from pydantic import Field

from edgeward.compression.step import Step
from edgeward.core.errors import UserError
from edgeward.training.config import FinetuneConfig

if TYPE_CHECKING:
    from edgeward.compression.workpiece import Workpiece


class Distill(Step):
    """Fine-tuning with a teacher: labels and the teacher's softened probabilities."""

    keeps_zeros: ClassVar[bool] = True

    step: Literal["distill"]
    teacher: str = Field(
        pattern=r"^[a-z0-9][a-z0-9_]*$",
        description="A model of config/model/. It is trained first, with the same data, seed and train settings; more capable than the "
        "student.",
    )
    temperature: float = Field(
        4.0,
        gt=0,
        description="Softens the probabilities of both; 1 to 10. Higher shows more of how the teacher ranks the wrong classes.",
    )
    weight: float = Field(
        0.5,
        gt=0,
        le=1,
        description="Share of the loss that is the teacher's; the rest is that of the labels.",
    )
    similarity_weight: float = Field(
        0.0,
        ge=0,
        description="Of a further term: which images of a batch look alike to the teacher's features should look alike to the student's "
        "(Tung and Mori 2019; 1000 or more is usual). 0: not used.",
    )
    finetune: FinetuneConfig = FinetuneConfig()

    def apply(self, piece: Workpiece) -> None:
        """Fine-tune the module on what the teacher says."""
        from edgeward.compression.distillation import Distillation, check_teacher
        from edgeward.compression.tuning import tune
        from edgeward.models.checkpoint import load_checkpoint
        from edgeward.tasks.inputs import patches_of
        from edgeward.training.task import training_task

        if self.teacher not in piece.teachers:
            raise UserError(
                f"no checkpoint of teacher '{self.teacher}' was given to the compress stage; given: "
                f"{', '.join(piece.teachers) or 'none'}."
            )
        teacher, meta = load_checkpoint(piece.teachers[self.teacher])
        check_teacher(self.teacher, meta, piece.meta)
        task = training_task(piece.data, self.finetune.loss, patches=patches_of(piece.meta))
        taught = Distillation(
            piece.module,
            teacher,
            task=task.criterion,
            temperature=self.temperature,
            weight=self.weight,
            similarity_weight=self.similarity_weight,
            exclusive=piece.exclusive,
        )
        tune(piece, taught, self.finetune, masked=piece.module, loss=taught.loss)
        taught.close()
        piece.effect = {
            "teacher": self.teacher,
            "teacher_parameters": sum(p.numel() for p in teacher.parameters()),
        }
