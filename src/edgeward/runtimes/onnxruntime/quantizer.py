"""Where quantize/dequantize pairs go so that onnxruntime runs integer kernels.

onnxruntime fuses an operator into its integer form only if *both* sides of it carry a
quantize/dequantize pair. The rules here follow from that:

- convolutions and ``linear``: input, weight and output; if the only user of the output is a ReLU
  (or a clamp), the pair goes behind that instead, since the integer kernel absorbs it.
- input and weight only where the kernel can give floats: the last layer, so that logits are not
  rounded to 256 levels, and linear layers on tokens (more than two dimensions).
- ``add`` and ``mul`` of two activations: both inputs and the output; not if a layer norm reads the
  result, because it blows up one rounding step of a residual stream to many.
- ``max_pool`` and nearest-neighbour upsampling: output shares the scale of its input, since they only
  select. Linear upsampling stays float: onnxruntime's integer kernel cuts instead of rounding.
- ``cat`` of channels that a convolution reads: every input and the output.
- convolutions that onnxruntime computes faster in float, unless their times on the device have decided (`floating`): of one or two channels, of groups with more than
  one channel in or out, and over volumes dense ones of up to eight channels and depthwise ones with large
  kernels (`benchmarks/conv_kernels.py`).
- transposed and one-dimensional convolutions stay float: the former have no integer kernel, the
  latter stand between transpositions and a float gate in the Mamba blocks.
- never ``softmax``, and no operator that touches it (through reshapes, scalings or added
  constants): onnxruntime's integer softmax computes something else than quantize-dequantize says.

Activations are uint8 per tensor, affine; weights int8 per output channel, symmetric (-127..127).
"""

from __future__ import annotations

import math
import platform
from collections.abc import Callable, Iterable
from pathlib import Path

import torch
from torch.fx import GraphModule, Node
from torchao.quantization.pt2e.quantizer import QuantizationAnnotation, SharedQuantizationSpec

from edgeward.runtimes.quantizer import ANNOTATION, EngineQuantizer

aten = torch.ops.aten
CONVOLUTIONS = {
    aten.conv2d.default,
    aten.conv2d.padding,
    aten.conv3d.default,
    aten.conv3d.padding,
}
WEIGHTED = CONVOLUTIONS | {aten.linear.default}
FEW_CHANNELS = 2
FEW_CHANNELS_OF_VOLUMES = 8  # read by a dense kernel of more than one tap
LARGEST_KERNEL = 27  # taps of a depthwise convolution over volumes
ALWAYS_FLOAT = {
    aten.conv_transpose2d.input,
    aten.conv_transpose3d.input,
    aten.conv1d.default,
}
SELECTIONS = {
    aten.max_pool2d.default,
    aten.max_pool3d.default,
    aten.upsample_nearest2d.vec,
    aten.upsample_nearest3d.vec,
}
ELEMENTWISE = {
    aten.add.Tensor,
    aten.add_.Tensor,
    aten.mul.Tensor,
    aten.mul_.Tensor,
}
ABSORBED = {
    aten.relu.default,
    aten.relu_.default,
    aten.hardtanh.default,
    aten.hardtanh_.default,
    aten.relu6.default,
    aten.relu6_.default,
}
LAYER_NORM = {aten.layer_norm.default}
SOFTMAX = {aten.softmax.int, aten._softmax.default, aten.log_softmax.int}
# What stands between a softmax and its neighbours without changing which operator they are.
TRANSPARENT = {
    aten.view.default,
    aten.reshape.default,
    aten.permute.default,
    aten.transpose.int,
    aten.contiguous.default,
    aten.flatten.using_ints,
    aten.unsqueeze.default,
    aten.squeeze.dim,
    aten.to.dtype,
    aten.clone.default,
}


class OnnxRuntimeQuantizer(EngineQuantizer):
    """A torchao quantizer for the integer kernels of onnxruntime's CPU provider."""

    title = "onnxruntime CPU"
    weighted = frozenset(WEIGHTED)
    always_float = frozenset(ALWAYS_FLOAT)
    elementwise = frozenset(ELEMENTWISE)
    absorbed = frozenset(ABSORBED)

    @classmethod
    def saturates(cls) -> bool:
        """Tell whether this is an x86 without VNNI, whose kernels hold the sum of two u8 x s8 products in 16 bits.

        onnxruntime, "Quantize ONNX models", section on U8S8 on AVX2 and AVX512. Only Linux tells; elsewhere False.
        """
        told = Path("/proc/cpuinfo")
        if platform.machine() not in ("x86_64", "AMD64", "i686") or not told.is_file():
            return False
        return "vnni" not in told.read_text()

    def annotate(self, model: GraphModule) -> GraphModule:
        """Annotate the nodes of an exported graph; `model` is changed in place.

        Raises
        ------
        UserError
            If a name in `keep_float` is no module of the graph.
        """
        nodes = list(model.graph.nodes)
        self.check_names(nodes)
        floating = _near_softmax(nodes)
        for node in nodes:
            if node in floating or self.is_kept(node):
                continue
            slow = self.floating is None and _slow(node)
            if node.target in WEIGHTED and _is_parameter(node.args[1]) and not slow:
                self._annotate_weighted(node)
            elif _joins_activations(node) and not _feeds(node, LAYER_NORM):
                self._annotate_joined(node, node.args[:2])
            elif _joins_channels(node) and all(map(_is_activation, node.args[0])):
                self._annotate_joined(node, node.args[0])
        for node in nodes:
            if node.target in SELECTIONS and not self.is_kept(node):
                self._annotate_selection(node)
        return model

    def _annotate_weighted(self, node: Node) -> None:
        source, weight = node.args[0], node.args[1]
        annotation = _annotation(node)
        annotation.input_qspec_map[source] = self.activation
        annotation.input_qspec_map[weight] = self.weight
        if not _is_model_output(node) and not _gives_floats(node):
            self._annotate_output(node)

    def _annotate_joined(self, node: Node, sources: Iterable[Node]) -> None:
        for source in sources:
            _annotation(node).input_qspec_map[source] = self.activation
        self._annotate_output(node)

    def _annotate_output(self, node: Node) -> None:
        users = list(node.users)
        absorbed = len(users) == 1 and users[0].target in ABSORBED
        _annotation(users[0] if absorbed else node).output_qspec = self.activation

    def _annotate_selection(self, node: Node) -> None:
        source = node.args[0]
        joined = any(_joins_channels(user) for user in node.users)
        given = source.meta.get(ANNOTATION)
        if not joined and (given is None or given.output_qspec is None):
            return
        annotation = _annotation(node)
        annotation.input_qspec_map[source] = self.activation
        annotation.output_qspec = SharedQuantizationSpec((source, node))


def _annotation(node: Node) -> QuantizationAnnotation:
    return node.meta.setdefault(ANNOTATION, QuantizationAnnotation(_annotated=True))


def _is_parameter(value: object) -> bool:
    return isinstance(value, Node) and value.op == "get_attr"


def _is_activation(value: object) -> bool:
    """Tell whether `value` is a float tensor that depends on the model's input."""
    if not isinstance(value, Node):
        return False
    tensor = value.meta.get("val")
    if not isinstance(tensor, torch.Tensor) or not tensor.is_floating_point():
        return False
    return _depends_on_input(value)


def _depends_on_input(node: Node) -> bool:
    seen, todo = set(), [node]
    while todo:
        current = todo.pop()
        if current.op == "placeholder":
            return True
        if current not in seen:
            seen.add(current)
            # A size of the input (sym_size) does not make a tensor depend on its values.
            if current.target is not aten.sym_size.int:
                todo.extend(current.all_input_nodes)
    return False


def _is_model_output(node: Node) -> bool:
    return all(user.op == "output" for user in node.users)


def _joins_activations(node: Node) -> bool:
    return node.target in ELEMENTWISE and all(map(_is_activation, node.args[:2]))


def _slow(node: Node) -> bool:
    """Tell a convolution whose integer kernel takes longer than the float one, whatever is around it."""
    if node.target not in CONVOLUTIONS:
        return False
    outputs, inner, *kernel = node.args[1].meta["val"].shape
    groups = node.args[6] if len(node.args) > 6 else 1
    grouped = groups > 1 and (inner > 1 or outputs > groups)
    taps = math.prod(kernel)
    large = groups > 1 and len(kernel) == 3 and taps > LARGEST_KERNEL
    dense = groups == 1 and len(kernel) == 3 and taps > 1
    few = FEW_CHANNELS_OF_VOLUMES if dense else FEW_CHANNELS
    return groups * inner <= few or grouped or large


def _joins_channels(node: Node) -> bool:
    """Tell a concatenation of channels that a convolution reads, pooled or not."""
    if node.target is not aten.cat.default or len(node.args) < 2 or node.args[1] != 1:
        return False
    return any(user.target in CONVOLUTIONS for user in node.users)


def _gives_floats(node: Node) -> bool:
    return node.target is aten.linear.default and node.meta["val"].dim() > 2


def _feeds(node: Node, targets: set[object]) -> bool:
    """Tell whether one of `targets` reads the result of `node`, directly or reshaped."""
    reached = _walk(list(node.users), lambda n: list(n.users))
    return any(user.target in targets for user in reached)


def _near_softmax(nodes: Iterable[Node]) -> set[Node]:
    """Return the operators next to a softmax, looking through what does not compute."""
    near: set[Node] = set()
    for node in nodes:
        if node.target in SOFTMAX:
            near.update(_walk([node.args[0]], lambda n: n.all_input_nodes))
            near.update(_walk(list(node.users), lambda n: list(n.users)))
    return near


def _walk(start: list[Node], following: Callable[[Node], list[Node]]) -> set[Node]:
    seen: set[Node] = set()
    todo = list(start)
    while todo:
        node = todo.pop()
        if node in seen or node.op != "call_function":
            continue
        seen.add(node)
        constant_operand = node.target in ELEMENTWISE | {aten.div.Tensor} and not all(
            map(_is_activation, node.args[:2])
        )
        if node.target in TRANSPARENT or constant_operand:
            todo.extend(following(node))
    return seen


QUANTIZER = OnnxRuntimeQuantizer
