"""Turns what pydantic and tomllib found wrong into sentences that name file, line and key."""

import difflib
import re
import tomllib
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any, get_args

from pydantic import BaseModel, ValidationError
from pydantic.fields import FieldInfo
from pydantic_core import ErrorDetails

from config.errors import ConfigError
from config.toml_lines import KeyPath, key_lines, line_of


def read_toml(file: Path) -> tuple[str, dict[str, Any]]:
    """The text of `file` and its values; ConfigError when it cannot be read or is not TOML."""
    try:
        text = file.read_text(encoding="utf-8")
    except OSError as error:
        raise ConfigError(f"{file}: cannot be read: {error.strerror or error}.") from error
    except UnicodeDecodeError as error:
        raise ConfigError(f"{file}: is not UTF-8 text (byte {error.start}).") from error
    try:
        return text, tomllib.loads(text)
    except tomllib.TOMLDecodeError as error:
        raise ConfigError(_syntax_sentence(file, text, error)) from error


def config_error(
    error: ValidationError,
    model: type[BaseModel],
    *,
    place_of: Callable[[KeyPath], str],
) -> ConfigError:
    """One ConfigError of one sentence a mistake, each on a line of its own.

    place_of: says where a key was set, such as ``fullfield.toml, line 3``.
    """
    sentences: dict[str, None] = {}
    for detail in error.errors(include_url=False):
        path = detail["loc"]
        sentences[f"{place_of(path)}: {_dotted(path)} {_fault(detail, model)}."] = None
    return ConfigError("\n".join(sentences))


def place_in(file: Path, text: str) -> Callable[[KeyPath], str]:
    """Names the line of `file` on which a key, or the table it belongs into, stands."""
    lines = key_lines(text)
    return lambda path: f"{file}, line {line_of(lines, path)}"


def did_you_mean(word: str, known: Iterable[str]) -> str:
    """`` (did you mean 'x'?)``, or nothing when no known word is near."""
    near = difflib.get_close_matches(word, list(known), n=1)
    return f" (did you mean {near[0]!r}?)" if near else ""


def fields_at(model: type[BaseModel], path: KeyPath) -> dict[str, FieldInfo]:
    """The fields of the model that stands at `path` inside `model`."""
    for key in path:
        if isinstance(key, int) or key not in model.model_fields:
            continue
        inner = _model_in(model.model_fields[key].annotation)
        if inner is None:
            return {}
        model = inner
    return model.model_fields


def _model_in(annotation: Any) -> type[BaseModel] | None:
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        return annotation
    return next((found for part in get_args(annotation) if (found := _model_in(part))), None)


def _syntax_sentence(file: Path, text: str, error: tomllib.TOMLDecodeError) -> str:
    found = re.search(r"^(?P<what>.*) \(at (?:line (?P<line>\d+), column \d+|end of document)\)$", str(error))
    if found is None:
        return f"{file}: is not valid TOML: {error}."
    line = found["line"] or str(text.count("\n") + 1)
    what = found["what"][:1].lower() + found["what"][1:]
    return f"{file}, line {line}: is not valid TOML: {what}."


def _dotted(path: KeyPath) -> str:
    """``routes[0].match.modality``, the way the keys nest."""
    text = ""
    for key in path:
        text += f"[{key}]" if isinstance(key, int) else f".{key}" if text else key
    return text or "the file"


_NUMBER = {"int_parsing", "int_type", "int_from_float"}
_FRACTION = {"float_parsing", "float_type", "finite_number"}
_TABLE = {"model_type", "model_attributes_type", "dict_type"}
_LIST = {"list_type", "tuple_type"}
_TEXT = {"string_type", "string_sub_type", "path_type"}
_SHOWN_LENGTH = 60


def _fault(detail: ErrorDetails, model: type[BaseModel]) -> str:
    """What is wrong with the value and what is allowed, as the rest of a sentence."""
    kind, limits = detail["type"], detail.get("ctx", {})
    if kind == "extra_forbidden":
        return _unknown_key(detail["loc"], model)
    if kind == "missing":
        return "is missing"
    if kind == "value_error":
        return str(limits["error"])
    rule = _rule(kind, limits)
    if rule is None:
        return f"is not allowed: {detail['msg'][:1].lower()}{detail['msg'][1:]}"
    return f"must {rule}{_instead(detail['input'])}"


def _rule(kind: str, limits: dict[str, Any]) -> str | None:
    fixed = (
        (_NUMBER, "be a whole number"),
        (_FRACTION, "be a number"),
        (_TABLE, "be a table of keys"),
        (_LIST, "be a list"),
        (_TEXT, "be text in quotes"),
        ({"bool_type", "bool_parsing"}, "be true or false"),
    )
    for kinds, rule in fixed:
        if kind in kinds:
            return rule
    limited = {
        "literal_error": "be one of {expected}",
        "greater_than_equal": "be {ge} or more",
        "greater_than": "be more than {gt}",
        "less_than_equal": "be {le} or less",
        "less_than": "be less than {lt}",
        "string_too_short": "have {min_length} or more characters",
        "string_too_long": "have {max_length} or fewer characters",
        "string_pattern_mismatch": "fit the pattern {pattern}",
        "too_short": "have {min_length} or more entries",
        "too_long": "have {max_length} or fewer entries",
    }
    if kind not in limited:
        return None
    plain = {name: f"{value:g}" if isinstance(value, float) else value for name, value in limits.items()}
    return limited[kind].format(**plain)


def _instead(value: Any) -> str:
    """The offending value when it is short and plain; never a table, which may hold more than the mistake."""
    if isinstance(value, str | int | float) and len(repr(value)) <= _SHOWN_LENGTH:
        return f", not {value!r}"
    return ""


def _unknown_key(path: KeyPath, model: type[BaseModel]) -> str:
    known = list(fields_at(model, path[:-1]))
    return f"is not a known key{did_you_mean(str(path[-1]), known) or '; known here: ' + ', '.join(known)}"
