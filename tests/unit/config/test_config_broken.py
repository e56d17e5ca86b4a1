"""A broken file: named in one line where it is used, named and ignored where it is not."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path

import pytest
from refusals import naming

from edgeward.core.errors import UserError
from edgeward.pipeline import rules
from edgeward.pipeline.compose import roots
from edgeward.pipeline.plan import Plan, check_settings
from edgeward.pipeline.rules import Pipeline

SWEEP = "description: d\ndata: [{data}]\nmodel: [dscnn]\nrecipe: [{recipe}]\ndevice: [host_quick]\n"
BOMB = "a0: &a0 [x, x, x, x, x, x, x, x, x, x]\n" + "".join(
    f"a{i}: &a{i} [{', '.join([f'*a{i - 1}'] * 10)}]\n" for i in range(1, 8)
)
BROKEN: dict[str, str | bytes] = {
    "syntax": "a: [1,\n b: :",
    "list": "- 1\n",
    "scalar": "5\n",
    "no_text": b"\xff\xfe\x00",
    "nul": "a: b\0c\n",
    "deep": "a: " + "[" * 3000,
    "digits": "a: " + "9" * 10_000,
    "alias": "a: *x\n",
    "bomb": BOMB,
    "python": "a: !!python/object/apply:os.system ['true']\n",
    "defaults": "defaults: 5\n",
    "itself": "defaults: [broken]\n",
}


@pytest.fixture
def study(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty study; the digests of the library, which no config changes, are not computed."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(rules, "closures", lambda *_: {})
    monkeypatch.setattr(rules, "content", lambda *_: {})
    for group in ("sweeps", "data", "compress"):
        (tmp_path / "config" / group).mkdir(parents=True)
    return tmp_path / "config"


def write(path: Path, content: str | bytes) -> None:
    path.write_bytes(content if isinstance(content, bytes) else content.encode())


@pytest.mark.parametrize("kind", BROKEN)
def test_a_broken_file_that_is_used_is_named(study: Path, kind: str) -> None:
    for group, used in (("data", {"data": "broken", "recipe": "fp32"}),
                        ("compress", {"data": "phantom_tiny", "recipe": "fp32, broken"})):  # fmt: skip
        write(study / group / "broken.yaml", BROKEN[kind])
        write(study / "sweeps/t.yaml", SWEEP.format(**used))
        with pytest.raises(UserError, match=naming(f"config/{group}/broken.yaml")) as refused:
            Plan.load(roots(), "t")
        assert len(str(refused.value)) < 600
        (study / group / "broken.yaml").unlink()
    write(study / "sweeps/t.yaml", BROKEN[kind])
    with pytest.raises(UserError, match=naming("config/sweeps/t.yaml")):
        Plan.load(roots(), "t")


def test_broken_files_that_are_not_used_are_named_and_ignored(
    study: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    write(study / "sweeps/t.yaml", SWEEP.format(data="phantom_tiny", recipe="fp32"))
    for kind, content in BROKEN.items():
        content = content.replace("broken", kind) if isinstance(content, str) else content
        for group in ("data", "compress"):
            write(study / group / f"{kind}.yaml", content)
    write(study / "data/task.yaml", "task: nonsense\n")
    write(study / "data/split.yaml", "split: 5\n")
    make: dict[str, Callable[[Path], object]] = {
        "fifo": os.mkfifo,
        "a_folder": Path.mkdir,
        "loop": lambda path: path.symlink_to(path),
        "zero": lambda path: path.symlink_to("/dev/zero"),
    }
    for name, how in make.items():
        how(study / "data" / f"{name}.yaml")
    pipeline = Pipeline({"sweep": "t"})
    assert "phantom_tiny" in pipeline.data(masks=False, volumes=False).split("|")
    assert "fp32" in pipeline.recipes(finished=False).split("|")
    assert not {*make} & {*pipeline.wildcards["data"].split("|")}
    told = capsys.readouterr().err.splitlines()
    assert all(line.startswith("Ignored, as sweep 't' does not use it: ") for line in told)
    for kind in (*BROKEN, "task", "split"):
        assert sum(f"config/data/{kind}.yaml" in line for line in told) == 1, kind


@pytest.mark.parametrize(
    ("line", "parts"),
    [
        ("seed: [0, 0]", ("seed", "[0, 0]")), ("seed: [-1]", ("seed.0", -1)), ("seed: [4294967296]", ("seed.0", 4294967296)),
        ("recipe: [fp32, fp32]", ("recipe", "fp32")), ("model: [../model/dscnn]", ("'../model/dscnn'",)),
    ],
    ids=str,
)  # fmt: skip
def test_axes_that_cannot_be(study: Path, line: str, parts: tuple[object, ...]) -> None:
    key = line.partition(":")[0]
    plain = SWEEP.format(data="phantom_tiny", recipe="fp32").splitlines()
    kept = [other for other in plain if not other.startswith(key)]
    write(study / "sweeps/t.yaml", "\n".join([*kept, line, ""]))
    with pytest.raises(UserError, match=naming(*parts)):
        Plan.load(roots(), "t")


@pytest.mark.parametrize("sweep", [None, ["t"], {"a": 1}, True], ids=str)
def test_what_is_no_name_of_a_sweep(sweep: object) -> None:
    with pytest.raises(UserError, match=naming("config/sweeps/")):
        check_settings({"sweep": sweep})


@pytest.mark.parametrize("name", ["5", "x" * 5000, "a\0b", "../data/phantom", ""], ids=len)
def test_a_sweep_that_is_not_there_is_named_in_a_few_words(study: Path, name: str) -> None:
    with pytest.raises(UserError, match=naming("sweep", "default")) as refused:
        Plan.load(roots(), name)
    assert len(str(refused.value)) < 800
