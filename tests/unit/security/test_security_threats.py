"""One test for each threat of SECURITY.md that has no test beside what it threatens.

Code in checkpoints: test_models_checkpoint.py; in exported programs: test_compression_program.py; markup in names:
test_reporting_page.py; files, tables and archives of a user: tests/fuzz.
"""

from __future__ import annotations

import json
import os
import zipfile
from pathlib import Path

import numpy as np
import onnx
import pytest
import torch
from given_models import colour_classifier
from onnx import TensorProto, helper, numpy_helper
from profiling_devices import quick, ssh_transport
from pydantic import TypeAdapter, ValidationError
from refusals import naming

from edgeward.core.errors import UserError
from edgeward.core.patterns import compiled, misread
from edgeward.models.checkpoint import read_tensors
from edgeward.models.program import load_program
from edgeward.models.weights import read as read_weights
from edgeward.profiling import validate
from edgeward.profiling.transport import open_device
from edgeward.profiling.transport.config import SshTransport
from edgeward.runtimes.onnxruntime.file import read_model


def model(weights: onnx.TensorProto) -> onnx.ModelProto:
    """A file that adds a weight to its input."""
    shape = [1, 3, 8, 8]
    graph = helper.make_graph(
        [helper.make_node("Add", ["x", "w"], ["y"])],
        "g",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, shape)],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, shape)],
        [weights],
    )
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 20)], ir_version=10)


def outside(location: str, **more: str) -> onnx.TensorProto:
    """A weight that lies in another file."""
    tensor = TensorProto(name="w", data_type=TensorProto.FLOAT, dims=[1, 3, 8, 8])
    tensor.data_location = TensorProto.EXTERNAL
    for key, value in {"location": location, **more}.items():
        tensor.external_data.add(key=key, value=value)
    return tensor


def test_weights_in_a_file_beside_the_model_are_read(tmp_path: Path) -> None:
    values = np.arange(192, dtype=np.float32).reshape(1, 3, 8, 8)
    (tmp_path / "w.bin").write_bytes(values.tobytes())
    onnx.save(model(outside("w.bin")), tmp_path / "m.onnx")
    found = numpy_helper.to_array(read_model(tmp_path / "m.onnx").graph.initializer[0])
    np.testing.assert_array_equal(found, values)


@pytest.mark.parametrize(
    "location",
    ["../secret.bin", "/etc/passwd", "link.bin", "sub/../../secret.bin", "pipe", "", "."],
)
def test_weights_outside_of_the_folder_of_a_model_are_not_read(
    tmp_path: Path, location: str
) -> None:
    (tmp_path / "in").mkdir()
    (tmp_path / "secret.bin").write_bytes(b"\0" * 768)
    (tmp_path / "in" / "link.bin").symlink_to(tmp_path / "secret.bin")
    os.mkfifo(tmp_path / "in" / "pipe")
    (tmp_path / "in" / "m.onnx").write_bytes(model(outside(location)).SerializeToString())
    with pytest.raises(UserError, match=naming("m.onnx", "'w'")):
        read_model(tmp_path / "in" / "m.onnx")


@pytest.mark.parametrize("more", [{"offset": "-8"}, {"offset": "700", "length": "768"}, {"length": "x"}])  # fmt: skip
def test_weights_beyond_the_end_of_their_file_are_not_read(
    tmp_path: Path, more: dict[str, str]
) -> None:
    (tmp_path / "w.bin").write_bytes(b"\0" * 768)
    (tmp_path / "m.onnx").write_bytes(model(outside("w.bin", **more)).SerializeToString())
    with pytest.raises(UserError, match=naming("m.onnx")):
        read_model(tmp_path / "m.onnx")


def test_weights_of_a_nested_graph_are_looked_at(tmp_path: Path) -> None:
    def branch(name: str) -> onnx.GraphProto:
        y = helper.make_tensor_value_info("w", TensorProto.FLOAT, [1, 3, 8, 8])
        return helper.make_graph([], name, [], [y], [outside("/etc/passwd")])

    node = helper.make_node("If", ["c"], ["y"], then_branch=branch("a"), else_branch=branch("b"))
    c = helper.make_tensor_value_info("c", TensorProto.BOOL, [])
    y = helper.make_tensor_value_info("y", TensorProto.FLOAT, [1, 3, 8, 8])
    made = helper.make_model(helper.make_graph([node], "g", [c], [y]), ir_version=10)
    (tmp_path / "m.onnx").write_bytes(made.SerializeToString())
    with pytest.raises(UserError, match=naming("/etc/passwd")):
        read_model(tmp_path / "m.onnx")


def test_metadata_without_end_is_refused(tmp_path: Path) -> None:
    made = model(numpy_helper.from_array(np.zeros((1, 3, 8, 8), np.float32), "w"))
    made.metadata_props.add(key="note", value="x" * (1 << 20))
    onnx.save(made, tmp_path / "m.onnx")
    with pytest.raises(UserError, match=naming("m.onnx", "metadata")):
        read_model(tmp_path / "m.onnx")


def nested(levels: int) -> bytes:
    """A protobuf message of a graph in a graph in a graph .."""
    content = b""
    for _ in range(levels):
        for tag in (0x32, 0x2A, 0x0A):  # attribute.g, node.attribute, graph.node: 6, 5, 1
            size, digits = len(content), bytearray()
            while size > 127:
                digits.append(size & 127 | 128)
                size >>= 7
            content = bytes([tag, *digits, size]) + content
    return content


@pytest.mark.parametrize(
    "content", [b"", b"\0" * 100, b"\x3a\xff\xff\xff\xff\x0f", nested(2000)],
    ids=["nothing", "zeros", "four gigabytes claimed", "nested"],
)  # fmt: skip
def test_what_is_no_model_is_refused(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "m.onnx").write_bytes(content)
    with pytest.raises(UserError, match=naming("m.onnx")):
        read_model(tmp_path / "m.onnx")


def test_a_pipe_in_the_place_of_a_model_is_refused(tmp_path: Path) -> None:
    for name in ("m.onnx", "m.pt", "m.json"):
        os.mkfifo(tmp_path / name)
    for read in (read_model, read_tensors, read_weights, load_program):
        name = "m.onnx" if read is read_model else "m.pt"
        with pytest.raises(UserError, match=naming(name, "regular")):
            read(tmp_path / name)
    assert validate.main([str(tmp_path / "m.json")]) == 2


@pytest.mark.parametrize("read", [read_tensors, read_weights, load_program], ids=["checkpoint", "weights", "program"])  # fmt: skip
def test_an_archive_that_unpacks_to_more_than_it_is_is_not_opened(
    tmp_path: Path, read: object
) -> None:
    torch.save({"w": torch.zeros(300_000)}, tmp_path / "plain.pt")
    path = tmp_path / "m.pt"
    with zipfile.ZipFile(tmp_path / "plain.pt") as old, zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as new:  # fmt: skip
        for member in old.infolist():
            new.writestr(member.filename, old.read(member))
    assert path.stat().st_size < 10_000
    with pytest.raises(UserError, match=naming("m.pt", "compressed")):
        read(path)  # type: ignore[operator]


def test_a_profile_of_others_cannot_exhaust_the_validator(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    deep, path = "[" * 900 + "]" * 900, tmp_path / "p.json"
    path.write_text(f'{{"schema": "edgeward-profile/1", "settings": {deep}}}')
    assert validate.main([str(path)]) in (1, 2)
    path.write_text("[" * 100_000)
    assert validate.main([str(path)]) == 2
    wide = {"schema": validate.Profile.FORMAT, **{f"k{i}": "x" * 20 for i in range(100_000)}}
    path.write_text(json.dumps(wide))
    capsys.readouterr()
    assert validate.main([str(path)]) == 1
    assert len(capsys.readouterr().err.splitlines()) == validate.MOST + 1


HOSTILE = ("$(touch${IFS}owned)", "`touch${IFS}owned`", "a;touch${IFS}owned", "a';touch${IFS}owned;'", 'a"&&touch${IFS}owned&&"', "a|touch${IFS}owned")  # fmt: skip


@pytest.mark.parametrize("key", ["host", "user", "python"])
@pytest.mark.parametrize("value", ["a; touch owned", "a\ntouch owned", "-oProxyCommand=x", ""], ids=range(4))  # fmt: skip
def test_options_and_spaces_are_no_values_of_a_device(key: str, value: str) -> None:
    with pytest.raises(ValidationError, match=key):
        TypeAdapter(SshTransport).validate_python(ssh_transport(Path("there"), **{key: value}))


@pytest.mark.parametrize("value", HOSTILE, ids=range(len(HOSTILE)))
def test_values_of_a_device_are_no_commands(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, value: str
) -> None:
    client = tmp_path / "bin" / "ssh"  # runs what it is given in a shell, as a server does
    client.parent.mkdir()
    client.write_text('#!/bin/sh\nfor last; do :; done\nexec sh -c "$last"\n')
    client.chmod(0o755)
    monkeypatch.setenv("PATH", f"{client.parent}:{os.environ['PATH']}")
    monkeypatch.chdir(tmp_path)
    asked = quick(ssh_transport(tmp_path / "there", python=value, host=value, user=value))
    with pytest.raises(UserError, match=naming("`transport.python`")), open_device(asked):
        pass
    assert not (tmp_path / "owned").exists()


@pytest.mark.parametrize("pattern", [r"(a+)+$", r"^(a|aa)+$", "((.*)*)*x", "(.*)" * 12 + "!"])
def test_expressions_take_time_that_grows_with_the_text_only(pattern: str) -> None:
    found = compiled(pattern, "key")
    text = "a" * 20_000 + "b"
    assert found.search(text) is None or pattern == r"^(a|aa)+$"


@pytest.mark.parametrize("pattern", ["(", r"(a)\1", "(?=a)b", "x" * 2000, "(a{1,1000}){1,1000}"])
def test_expressions_that_need_backtracking_or_are_none_are_refused(pattern: str) -> None:
    with pytest.raises(UserError, match=naming("some.key")):
        compiled(pattern, "some.key")


def test_classes_of_letters_know_ascii_only_and_say_so() -> None:
    assert misread(r"^(\w+)_", "Müller_1")
    assert not misread(r"^([\pL\pN]+)_", "Müller_1")
    assert not misread(r"^(\w+)_", "Mueller_1")
    assert compiled(r"^([\pL\pN]+)_", "key").search("Müller_1").group(1) == "Müller"


def test_a_healthy_model_passes(tmp_path: Path) -> None:
    assert read_model(colour_classifier(tmp_path / "m.onnx")).graph.node
