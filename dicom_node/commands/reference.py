"""The reference pages of the documentation, made from the code.

`python -m dicom_node.commands.reference docs/reference` writes them; a test fails when they are stale.
"""

import inspect
import json
import sys
import types
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Annotated, Any, Literal, Union, get_args, get_origin

import typer
from pydantic import BaseModel, SecretStr
from pydantic.fields import FieldInfo

from config.routes import RouteTable
from config.settings import Settings

_MADE = "<!-- Made from the code by `make docs`: what is changed here is lost. -->"


_SETTINGS = """
One TOML file, read with `--settings FILE`, else from the variable `FULLFIELD_SETTINGS`, else from
`fullfield.toml` in the working directory; without any, the defaults hold.
[config/examples/fullfield.toml](../../config/examples/fullfield.toml) is a file to start from.

The environment overrules the file key by key: `FULLFIELD__LISTENER__PORT=11113` overrules `port` in
`[listener]`; a list or a table is written as JSON. Relative paths are relative to the folder of the settings
file, or to the working directory when there is none.
"""

_ROUTES = """
One TOML file, named by the setting `routes`.
[config/examples/routes.toml](../../config/examples/routes.toml) is a file to start from; `fullfield routes
check` tells its mistakes, and `fullfield routes test` which route takes a DICOM file. A running node reads it
again on SIGHUP; a file with a mistake changes nothing.

The first route in the order of the file that matches an object takes it. An object that no route matches is
kept and goes no further. A picture that is itself generated (Synthetic Data (0008,001C) is YES, or Image Type
(0008,0008) is DERIVED and holds GENERATED) takes no route, whatever the file says.

A job works on what its series held when it was complete; what comes later is a job of its own. An object goes
by the route that matched it when it arrived, with what the file says of that route when the job is queued.
"""

_COMMAND_LINE = """
Every command ends with 0 when it did what was asked, with 2 when its arguments are wrong, and with 1 for any
other failure; what went wrong then stands on standard error, one line a mistake.
"""


def settings_page() -> str:
    """Every key of the settings file."""
    return _joined("# Settings", _MADE, _SETTINGS.strip(), *_tables(Settings, ""))


def routes_page() -> str:
    """Every key of the routes file."""
    return _joined("# Routes", _MADE, _ROUTES.strip(), *_tables(RouteTable, ""))


def command_line_page() -> str:
    """Every command with its arguments and options."""
    from dicom_node.commands.main import app

    context = typer.Context(typer.main.get_command(app), info_name="fullfield")
    return _joined("# Command line", _MADE, _COMMAND_LINE.strip(), *_commands(context))


def model_page() -> str:
    """The shipped weights: files, training and figures."""
    from dicom_node.commands.model_reference import model_page

    return model_page()


def conformance_statement() -> str:
    """What an integrator asks for (PS3.2)."""
    from dicom_node.commands.conformance import conformance_page

    return conformance_page(_MADE)


def metrics_page() -> str:
    """Every metric of a node."""
    from dicom_node.commands.metrics_reference import metrics_page

    return metrics_page(_MADE)


#: By their places from the folder of the reference; the conformance statement lies beside that folder.
def object_page() -> str:
    """What becomes of each attribute in each result object."""
    from dicom_node.commands.object_reference import object_page

    return object_page()


PAGES: dict[str, Callable[[], str]] = {
    "../conformance.md": conformance_statement,
    "settings.md": settings_page,
    "routes.md": routes_page,
    "cli.md": command_line_page,
    "model.md": model_page,
    "metrics.md": metrics_page,
    "objects.md": object_page,
}


def write_pages(folder: Path) -> None:
    """Write all pages into `folder`, which is made when there is none."""
    folder.mkdir(parents=True, exist_ok=True)
    for name, page in PAGES.items():
        (folder / name).write_text(page(), encoding="utf-8")


def _joined(*paragraphs: str) -> str:
    return "\n\n".join(paragraphs) + "\n"


def _tables(model: type[BaseModel], path: str) -> Iterator[str]:
    """The keys of a table of the file, then the tables in it."""
    plain = {name: field for name, field in model.model_fields.items() if _inner_model(field) is None}
    if plain:
        rows = [_row(f"`{name}`", _allowed(field), _default(field), _text(field)) for name, field in plain.items()]
        yield "\n".join([_row("key", "value", "default", "meaning"), _row("---", "---", "---", "---"), *rows])
    for name, field in model.model_fields.items():
        inner = _inner_model(field)
        if inner is None:
            continue
        inner_path = f"{path}.{name}" if path else name
        heading = f"[[{inner_path}]]" if _is_list(field.annotation) else f"[{inner_path}]"
        yield f"## `{heading}`"
        yield inspect.cleandoc(inner.__doc__ or "")
        if field.description and field.description != inner.__doc__:
            yield field.description
        yield from _tables(inner, inner_path)


def _inner_model(field: FieldInfo) -> type[BaseModel] | None:
    return next((part for part in _parts(field.annotation) if issubclass(part, BaseModel)), None)


def _parts(annotation: Any) -> Iterator[type]:
    if isinstance(annotation, type) and not get_args(annotation):
        yield annotation
    for argument in get_args(annotation):
        yield from _parts(argument)


def _is_list(annotation: Any) -> bool:
    origin = get_origin(annotation)
    return origin in (list, tuple) or (
        origin in (Union, types.UnionType) and any(_is_list(part) for part in get_args(annotation))
    )


def _allowed(field: FieldInfo) -> str:
    limits = {
        name: getattr(limit, name)
        for limit in field.metadata
        for name in ("ge", "gt", "le", "lt", "min_length")
        if getattr(limit, name, None) is not None
    }
    words = [_kind(field.annotation)]
    if "ge" in limits and "le" in limits:
        words.append(f"{limits['ge']} to {limits['le']}")
    else:
        signs = {"gt": "more than {}", "ge": "{} or more", "lt": "less than {}", "le": "{} or less"}
        words += [sign.format(limits[name]) for name, sign in signs.items() if name in limits]
    if _is_list(field.annotation) and "min_length" in limits:
        words.append(f"{limits['min_length']} or more")
    return ", ".join(words)


def _kind(annotation: Any) -> str:
    origin, arguments = get_origin(annotation), get_args(annotation)
    if origin is Annotated:
        return _kind(arguments[0])
    if origin is Literal:
        return ", ".join(f"`{_toml(value)}`" for value in arguments)
    if origin in (list, tuple):
        return f"list of {_kind(arguments[0])}"
    if origin in (Union, types.UnionType):
        kinds = {_kind(argument): None for argument in arguments if argument not in (type(None), Literal[""])}
        if "number" in kinds:
            kinds.pop("whole number", None)
        return " or ".join(kinds)
    plain = {str: "text", SecretStr: "text", int: "whole number", float: "number", bool: "true or false", Path: "path"}
    return plain[annotation]


def _default(field: FieldInfo) -> str:
    if field.is_required():
        return "required"
    return "unset" if field.default is None else f"`{_toml(field.default)}`"


def _toml(value: Any) -> str:
    if isinstance(value, tuple):
        return f"[{', '.join(_toml(one) for one in value)}]"
    if isinstance(value, bool | int | float):
        return json.dumps(value)
    return json.dumps(str(value))


def _text(field: FieldInfo) -> str:
    return field.description or ""


def _row(*cells: str) -> str:
    return f"| {' | '.join(cell.replace('|', '&#124;') for cell in cells)} |"


def _commands(context: Any) -> Iterator[str]:
    """A command and those below it. Everything of click's is met as Any: typer keeps its types to itself."""
    command = context.command
    below: dict[str, Any] = getattr(command, "commands", {})
    if context.parent is not None:
        yield f"## `{context.command_path}`"
        yield from _described(command.help or "")
        if not below:
            yield _code(_usage(context))
            yield _parameters(context)
    for name, child in below.items():
        if not child.hidden:
            yield from _commands(typer.Context(child, info_name=name, parent=context))


def _described(text: str) -> Iterator[str]:
    """The paragraphs of a command's help, its example as code."""
    for paragraph in inspect.cleandoc(text).split("\n\n"):
        words = " ".join(paragraph.split())
        if words.startswith("Example: "):
            yield f"Example:\n\n{_code(words.removeprefix('Example: '))}"
        elif words:
            yield words


def _usage(context: Any) -> str:
    words = [context.command_path]
    for parameter in context.command.params:
        if parameter.param_type_name == "argument":
            name = _argument(parameter).removesuffix("...") + ("..." if parameter.nargs == -1 else "")
            words.append(name if parameter.required else f"[{name}]")
    return " ".join([*words, "[OPTIONS]"])


def _code(text: str) -> str:
    return f"```\n{text}\n```"


def _argument(parameter: Any) -> str:
    return str(parameter.metavar or parameter.name.upper())


def _parameters(context: Any) -> str:
    lines = []
    for parameter in context.command.params:
        if getattr(parameter, "hidden", False):
            continue
        lines.append(f"- {_written(parameter, context)}: {parameter.help or ''}{_remark(parameter)}")
    return "\n".join(lines) if lines else "No arguments and no options."


def _written(parameter: Any, context: Any) -> str:
    value = parameter.metavar or parameter.display_type(context)
    if parameter.param_type_name == "argument":
        return f"`{_argument(parameter).removesuffix('...')}`"
    names = "`, `".join([*parameter.opts, *parameter.secondary_opts])
    return f"`{names}`" if parameter.is_flag else f"`{names} {value}`"


def _remark(parameter: Any) -> str:
    remarks = []
    if parameter.required:
        remarks.append("required")
    default = parameter.default
    if isinstance(default, str | int | float) and not isinstance(default, bool):
        remarks.append(f"default `{default}`")
    if parameter.envvar:
        remarks.append(f"variable `{parameter.envvar}`")
    return f" ({', '.join(remarks)})" if remarks else ""


if __name__ == "__main__":
    write_pages(Path(sys.argv[1]))
