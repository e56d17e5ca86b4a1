"""Config models beside what a file says: which model a section is of, what it inherits, what is wrong with it."""

from __future__ import annotations

from collections.abc import Callable
from functools import reduce
from typing import Any, Literal, get_args, get_origin

from pydantic import BaseModel, ValidationError
from pydantic.fields import FieldInfo

from edgeward.core.errors import UserError, did_you_mean

Model = type[BaseModel]


def models_in(annotation: Any) -> list[Model]:
    """List the config models that a field can hold, also as entries of a list."""
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        return [annotation]
    return [model for part in get_args(annotation) for model in models_in(part)]


def tag_of(options: list[Model]) -> str:
    """Return the key that tells the models of a union apart."""
    return next(
        name
        for name, field in options[0].model_fields.items()
        if get_origin(field.annotation) is Literal and all(name in o.model_fields for o in options)
    )


def tags(option: Model, tag: str) -> list[str]:
    """List the values of the key `tag` that stand for a model of a union."""
    return list(get_args(option.model_fields[tag].annotation))


def model_of(field: FieldInfo, value: Any) -> Model | None:
    """Return the config model of what a file says of a field; None if it has none, or says too little."""
    options = models_in(field.annotation)
    if len(options) < 2 or not isinstance(value, dict):
        return options[0] if len(options) == 1 else None
    tag = tag_of(options)
    if tag not in value:
        return type(field.default) if isinstance(field.default, BaseModel) else None
    return next((o for o in options if value[tag] in tags(o, tag)), None)


def merged(old: Any, new: Any) -> Any:
    """Return `new`; of two mappings the one with the keys of both, where `new` has the say."""
    if not (isinstance(old, dict) and isinstance(new, dict)):
        return new
    return {**old, **{key: merged(old.get(key), value) for key, value in new.items()}}


def listed(value: Any) -> Any:
    """Return a value with lists for tuples, as YAML and JSON have it."""
    if isinstance(value, dict):
        return {key: listed(entry) for key, entry in value.items()}
    return [listed(entry) for entry in value] if isinstance(value, list | tuple) else value


def take_over(field: FieldInfo, given: Any, run: dict[str, Any]) -> Any:
    """Return what a file says of a field, with what its sections inherit from the groups in `run` (`core.config.inherited`)
    and, where the default of a union is meant, with the key that says so."""
    if isinstance(given, list):
        return [take_over(field, entry, run) for entry in given]
    model = model_of(field, given)
    if model is None or not isinstance(given, dict):
        return given
    section = dict(given)
    if len(options := models_in(field.annotation)) > 1 and isinstance(field.default, BaseModel):
        section.setdefault(tag := tag_of(options), getattr(field.default, tag))
    for name, inner in model.model_fields.items():
        extra = inner.json_schema_extra
        if isinstance(extra, dict) and "inherits" in extra:
            try:
                theirs = _at(str(extra["inherits"]), run)
            except KeyError:  # the task of the run has no such key
                continue
            section[name] = _inherited(inner, theirs, section.get(name, theirs))
        elif name in section or isinstance(inner.default, BaseModel):
            section[name] = take_over(inner, section.get(name, {}), run)
    return section


def _at(source: str, run: dict[str, Any]) -> Any:
    """Return what a run says under a dotted path; ``<task>`` in it stands for the task of its data."""
    keys = source.split(".")
    if "<task>" in keys:
        keys[keys.index("<task>")] = run["data"]["task"]
    return reduce(lambda node, key: node[key], keys, run)


def _inherited(field: FieldInfo, theirs: Any, mine: Any) -> Any:
    """Return what is inherited, changed by `mine`; only `mine` if that is of another kind."""
    options = models_in(field.annotation)
    tag = tag_of(options) if len(options) > 1 else None
    if tag and isinstance(mine, dict) and mine.get(tag, theirs.get(tag)) != theirs.get(tag):
        return mine
    return merged(theirs, mine)


def explain(
    error: ValidationError, model: Model, content: Any, where: Callable[[str], str], *above: str
) -> UserError:
    """Turn a validation error into one line for each broken key: file, key, value, and what is allowed.

    Parameters
    ----------
    model : of `content`. where : dotted key -> the file or override in which it stands.
    above : keys that lead from `content` to what was validated.
    """
    said: dict[str, list[str]] = {}
    for item in error.errors():
        keys, around, field = _locate(model, content, (*above, *item["loc"]))
        value, text = item["input"], item["msg"].removeprefix("Value error, ")
        if item["type"] == "missing":
            keys, text = [*keys, str(item["loc"][-1])], "is missing"
        elif item["type"] == "extra_forbidden" and around:
            allowed = sorted(around.model_fields)
            hint = did_you_mean(keys[-1], allowed, "".join(f"{key}." for key in keys[:-1]))
            text = f"is unknown.{hint} Allowed: {', '.join(allowed)}"
        elif item["type"].startswith("union_tag") and field:
            tag = tag_of(options := models_in(field.annotation))
            allowed = [name for option in options for name in tags(option, tag)]
            keys, value = [*keys, tag], value.get(tag) if isinstance(value, dict) else value
            hint = did_you_mean(str(value), allowed)
            text = f"has value {value!r}.{hint} Allowed: {', '.join(allowed)}"
        elif isinstance(value, dict):
            text = f"does not fit together: {text}"
        else:
            text = f"has value {value!r}: {text}"
        said.setdefault(".".join(keys), []).append(text)
    lines = [
        f"{where(key)}: " + (f"key '{key}' " if key else "") + "; or ".join(texts) + "."
        for key, texts in said.items()
    ]
    return UserError("\n".join(lines))


def _locate(
    model: Model, content: Any, location: tuple[int | str, ...]
) -> tuple[list[str], Model | None, FieldInfo | None]:
    """Return the keys that lead to an error, less the tags of unions; the section that holds the last one; its field."""
    keys: list[str] = []
    around: Model | None = None
    section: Model | None = model
    field: FieldInfo | None = None
    for part in location:
        if isinstance(content, dict) and part in content:
            around = section
            field = section.model_fields.get(str(part)) if section else None
        elif not (isinstance(content, list) and isinstance(part, int)):
            continue
        content = content[part]
        keys.append(str(part))
        section = model_of(field, content) if field else None
    return keys, around, field
