"""What README.md and docs/ show works: files compose, commands are understood, and what is named exists."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import pytest
import yaml
from guides import GUIDES, PROJECT, Block, blocks, commands, prose, spans
from pydantic import BaseModel
from snakemake.cli import get_argument_parser, parse_config

from edgeward.pipeline import cli, paths
from edgeward.pipeline.compose import compose, locate, roots
from edgeward.pipeline.plan import Plan, check_settings
from edgeward.pipeline.schema import GROUPS, SweepConfig
from edgeward.pipeline.sections import models_in

# What a part of a file needs to be one.
REST: dict[str, dict[str, Any]] = {
    "data": {"image_size": 32},
    "model": {"architecture": "resnet18", "family": "cnn"},
    "compress": {},
    "sweeps": {},
}
AXES = {"data": "data", "model": "model", "recipe": "compress", "device": "profile", "sweep": "sweeps"}  # fmt: skip
AXIS_OF = {group: axis for axis, group in AXES.items()}


def named(block: Block) -> tuple[str, str] | None:
    """Return group and name of the file that the text above a block says it is."""
    found = re.findall(r"`config/(\w+)/(\w+)\.yaml`", block.before)
    return found[-1] if found else None


def fitting(content: dict[str, Any]) -> str:
    """Return the group whose files have these keys."""
    models = {group: models_in(field.annotation) for group, field in GROUPS.items()}
    fits = [
        group
        for group, options in (models | {"sweeps": [SweepConfig]}).items()
        if any(set(content) <= set(option.model_fields) for option in options)
    ]
    (group,) = fits
    return group


@pytest.fixture
def study(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A study whose config holds the files that the guides show, and a sweep `mine`."""
    monkeypatch.chdir(tmp_path)
    for block in blocks("yaml"):
        if (file := named(block)) is not None:
            group, name = file
            (tmp_path / "config" / group).mkdir(parents=True, exist_ok=True)
            (tmp_path / "config" / group / f"{name}.yaml").write_text(block.text)
    (tmp_path / "config" / "sweeps").mkdir()
    smoke = (PROJECT / "config" / "sweeps" / "smoke.yaml").read_text()
    (tmp_path / "config" / "sweeps" / "mine.yaml").write_text(smoke)
    return tmp_path


@pytest.mark.parametrize("block", blocks("yaml"), ids=str)
def test_yaml_is_a_file_of_a_group_or_a_part_of_one(study: Path, block: Block) -> None:
    content = yaml.safe_load(block.text)
    group, name = named(block) or (fitting(content), "shown")
    file = study / "config" / group / f"{name}.yaml"
    file.parent.mkdir(exist_ok=True)
    if name == "shown":
        file.write_text(yaml.safe_dump(REST[group] | content))
    if group == "sweeps":
        smoke = yaml.safe_load((file.parent / "mine.yaml").read_text())
        content["model"] = list({*smoke["model"], *content.get("per_model", {})})
        file.write_text(yaml.safe_dump(smoke | content))
        Plan.load(roots(), name)
    else:
        compose(roots(), {AXIS_OF[group]: name})


def patterns() -> Iterator[re.Pattern[str]]:
    """Yield what matches the files that stages write, with the wildcards as groups."""
    kinds = [paths.Stage]
    while kinds:
        kind = kinds.pop()
        kinds += kind.__subclasses__()
        if hasattr(kind, "RESULTS"):
            values = [(name, v) for k in kind.__mro__ for name, v in vars(k).items()]
            for name in {name for name, value in values if isinstance(value, paths.File)}:
                text = re.escape(str(getattr(kind, name)))
                yield re.compile(re.sub(r"\\\{(\w+)\\\}", r"(?P<\1>[^/]+)", text))


def rules() -> set[str]:
    """Return the names of the workflow's rules."""
    files = [PROJECT / "Snakefile", *(PROJECT / "workflow" / "rules").glob("*.smk")]
    text = "\n".join(file.read_text() for file in files)
    return set(re.findall(r"^(?:rule|use rule \w+ as) (\w+)", text, re.MULTILINE))


def check_target(target: str) -> None:
    """Check that a rule of this name, or one that writes this file, exists; and what the path names."""
    if "/" not in target:
        assert target in rules()
        return
    matches = [m for p in patterns() if (m := p.fullmatch(target))]
    assert matches, target
    match = min(
        matches, key=lambda m: len(m.groupdict())
    )  # a file rather than a folder of any name
    for wildcard, value in match.groupdict().items():
        if not re.fullmatch(r"\{\w+\}|<\w+>", value):
            if wildcard in AXES:
                locate(roots(), AXES[wildcard], value, wildcard, target)
            else:
                assert value.isdigit()


def check_snakemake(words: list[str]) -> None:
    """Check a command line of Snakemake as far as can be without running it."""
    args = get_argument_parser().parse_args(words)
    for target in [*args.targets, *(args.forcerun or []), *(args.until or [])]:
        check_target(target)
    config = parse_config(args.config)
    check_settings(config)
    sweep, overrides = config.get("sweep", "default"), tuple(config.get("overrides", ()))
    locate(roots(), "sweeps", sweep, "sweep", "--config")
    if overrides:
        Plan.load(roots(), sweep, overrides)
    if args.workflow_profile:
        assert list((PROJECT / args.workflow_profile).glob("profile*.yaml"))


def check_edgeward(words: list[str]) -> None:
    """Check that the command knows the options."""
    if "--help" not in words:
        assert callable(cli.parser().parse_args(words).run)


def module_file(name: str) -> Path | None:
    """Return the file of a module of the project, without importing it."""
    base = PROJECT / "src" / Path(*name.split("."))
    return next((f for f in (base.with_suffix(".py"), base / "__init__.py") if f.is_file()), None)


def check_python(words: list[str]) -> None:
    """Check that a script or module exists and knows the options."""
    kind, *rest = words
    if kind == "-c":
        check_imports(ast.parse(rest[0]))
        return
    file = module_file(rest.pop(0)) if kind == "-m" else PROJECT / kind
    assert file is not None
    text = file.read_text()
    assert "__main__" in text
    assert [word for word in rest if word.startswith("--") and f'"{word}"' not in text] == []


def check_imports(tree: ast.AST) -> None:
    """Check that every module that is imported can be found, and every name of the project in it."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            assert all(find_spec(name.name.split(".")[0]) for name in node.names)
        elif isinstance(node, ast.ImportFrom) and node.module:
            assert find_spec(node.module.split(".")[0])
            if node.module.startswith("edgeward"):
                assert all(exists(f"{node.module}.{name.name}") for name in node.names)


@pytest.mark.parametrize(
    ("where", "words"), commands(), ids=[f"{where} {' '.join(w)[:60]}" for where, w in commands()]
)
def test_commands_are_understood(study: Path, where: str, words: list[str]) -> None:
    program, *rest = words
    if program == "snakemake":
        check_snakemake(rest)
    elif program == "edgeward":
        check_edgeward(rest)
    elif program == "python":
        check_python(rest)
    elif program == "make":
        makefile = (PROJECT / "Makefile").read_text()
        named = [
            rf"\$\({word.partition('=')[0]}\)" if "=" in word else rf"^{word}:" for word in rest
        ]
        assert all(re.search(pattern, makefile, re.MULTILINE) for pattern in named)
    else:
        assert (PROJECT / program).is_file()


@pytest.mark.parametrize("block", blocks("python"), ids=str)
def test_python_compiles_and_imports_what_there_is(block: Block) -> None:
    check_imports(ast.parse(block.text))


def test_no_block_is_left_out() -> None:
    """A block in another language, or with a command that no test knows, would go unread."""
    known = {id_ for id_, _ in commands()}
    for block in blocks(""):
        assert str(block) in known or block.text.startswith(SHOWN), block
    languages = {"", "yaml", "python", "mermaid"}
    fences = [f for g in GUIDES for f in re.findall(r"^ *```(\w+)$", g.read_text(), re.MULTILINE)]
    assert set(fences) <= languages


# Blocks of text, not of commands of the project.
SHOWN = (
    "model  ",
    "study/",
    "module edgeward:",
    "results/{data}",
    "stage ",
    "ssh-keygen ",
    "openssl req ",
    "python3 -m venv bench",
    "import coremltools",
)


# --- names in the text ------------------------------------------------------------------------


def exists(dotted: str) -> bool:
    """Whether a dotted name is a module, or something defined in one."""
    parts = dotted.split(".")
    if (PROJECT / "src" / Path(*parts)).is_dir():
        return True
    for cut in range(len(parts), 0, -1):
        if (file := module_file(".".join(parts[:cut]))) is not None:
            body = file.read_text()
            defined = r"^ *(?:def|class) {0}\b|^ *{0}\b.* = |^ *{0}: |import .*\b{0}\b"
            return all(re.search(defined.format(p), body, re.MULTILINE) for p in parts[cut:])
    return False


SOURCE = "\n".join(p.read_text() for p in (PROJECT / "src").rglob("*.py"))
ROOTS = (PROJECT, PROJECT / "src", PROJECT / "src" / "edgeward")
MADE = {"build", "logs", "mlruns", "results"}  # by runs, here or anywhere
TOP = (
    {p.name for root in ROOTS for p in root.iterdir()}
    - {"data", "export", "models", "train"}
    - MADE
)


@pytest.mark.parametrize("guide", GUIDES, ids=lambda g: str(g.relative_to(PROJECT)))
def test_names_of_modules_and_files_exist(study: Path, guide: Path) -> None:
    missing = []
    for span in spans(guide):
        dotted = re.match(r"edgeward(\.\w+)+", span)
        if dotted and not exists(dotted[0]) and f'"{dotted[0]}"' not in SOURCE:
            missing.append(span)
        path = re.fullmatch(r"(\w+)/[\w./*{}<>+-]*", span)
        if path and path[1] in TOP:
            pattern = re.sub(r"\{\w+\}|<\w+>", "*", span).rstrip("/")
            written = any(p.fullmatch(f"results/{span}") for p in patterns())
            found = any(
                any(root.glob(pattern + ending))
                for root in (*ROOTS, guide.parent, study)
                for ending in ("", ".yaml")
            )
            if not (written or found):
                missing.append(span)
    assert missing == []


def keys(models: list[type[BaseModel]], above: str) -> Iterator[str]:
    """Yield the keys of config models and of the sections in them, from the group on."""
    for model in models:
        for name, field in model.model_fields.items():
            yield f"{above}.{name}"
            yield from keys(models_in(field.annotation), f"{above}.{name}")


KEYS = {key for group, field in GROUPS.items() for key in keys(models_in(field.annotation), group)}


@pytest.mark.parametrize("guide", GUIDES, ids=lambda g: str(g.relative_to(PROJECT)))
def test_keys_of_the_config_exist(guide: Path) -> None:
    """Those that a guide names from the group on, or with a value."""
    groups, files = "|".join(GROUPS), r"onnx|pt2?|pte|tflite|py|json|csv"
    for span in spans(guide):
        key = re.fullmatch(rf"((?:{groups})\.(?!(?:{files})$)[\w.]+)(=.*)?", span) or re.fullmatch(
            r"(\w+\.[\w.]+): .*", span
        )
        assert not key or any(f".{k}".endswith(f".{key[1]}") for k in KEYS), span


@pytest.mark.parametrize("guide", GUIDES, ids=lambda g: str(g.relative_to(PROJECT)))
def test_links_lead_somewhere(guide: Path) -> None:
    for target in re.findall(r"\]\(([^)\s]+)\)", re.sub(r"`[^`]*`", "x", prose(guide))):
        if not re.match(r"[a-z]+:", target):
            path, _, heading = target.partition("#")
            file = (guide.parent / path).resolve() if path else guide
            assert file.exists(), target
            if heading:
                titles = re.findall(r"^#+ (.*)$", file.read_text(), re.MULTILINE)
                plain = [re.sub(r"[^\w\- ]", "", title.lower()) for title in titles]
                assert heading in {title.replace(" ", "-") for title in plain}, target
