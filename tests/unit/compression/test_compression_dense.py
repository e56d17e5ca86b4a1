"""What recipes do with dense outputs: distillation pixel by pixel, gradients, and what is refused."""

from __future__ import annotations

import pytest
import torch

from edgeward.compression.distillation import soft_targets
from edgeward.tasks.config import PatchConfig
from edgeward.training.task import training_task


def test_pixels_are_distilled_one_by_one() -> None:
    torch.manual_seed(0)
    student, teacher = torch.randn(2, 2, 3, 5, 4)
    pixels = [x.movedim(1, -1).reshape(-1, 3) for x in (student, teacher)]
    expected = torch.stack(
        [
            (t.softmax(0) * (t.log_softmax(0) - s.log_softmax(0))).sum()
            for s, t in zip(pixels[0] / 2, pixels[1] / 2, strict=True)
        ]
    ).mean()
    torch.testing.assert_close(soft_targets(student, teacher, 2.0), 4 * expected)


@pytest.mark.parametrize("name", ["small_masks", "small_volumes"])
def test_gradients_are_of_the_cross_entropy_of_pixels(
    name: str, request: pytest.FixtureRequest
) -> None:
    data = request.getfixturevalue(name)
    patches = PatchConfig(size=(16, 16, 16), per_case=1, foreground=0.5, overlap=0, windows=1)
    task = training_task(data, None, patches=None if data.volumes is None else patches)
    images, masks = task.read(task.train_items(4, seed=0, epoch=0)[0], training=True)
    images = task.to_input(images) / 255
    conv = torch.nn.Conv2d if data.volumes is None else torch.nn.Conv3d
    net = conv(images.shape[1], 3, 1)
    task.loss(net, images, masks).backward()
    logits = net(images).movedim(1, -1).flatten(0, -2)
    expected = torch.nn.functional.cross_entropy(logits, masks.flatten().long())
    (gradient,) = torch.autograd.grad(expected, [net.weight])
    torch.testing.assert_close(net.weight.grad, gradient)
