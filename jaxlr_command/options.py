"""Options that commands share, and those of a file that is to be learned from."""

import functools
import inspect
from collections.abc import Callable
from pathlib import Path
from typing import Annotated, Any

import typer


def option(help: str, *names: str, **settings: Any) -> Any:
    """Return an option, its help first."""
    return typer.Option(*names, help=help, **settings)


AsJson = Annotated[bool, option("Print JSON, and nothing else.", "--json")]
NoCache = Annotated[
    bool,
    option("Keep no compiled programs in the user's cache folder, and use none.", "--no-cache"),
]
Level = Annotated[float, option("Of the intervals.", min=0.01, max=0.9999)]
ModelFile = Annotated[Path, typer.Argument(help="A model that fit or sweep has written.")]

_HELP: dict[str, tuple[Any, dict[str, Any]]] = {
    "target": (str, {"help": "The column to predict, of two classes or more.", "metavar": "NAME"}),
    "positive": (
        str,
        {
            "help": "Of two classes that whose odds and probabilities are told. Else the second.",
            "metavar": "CLASS",
        },
    ),
    "features": (list[str], {"help": "The columns to predict it from. Else all others."}),
    "exclude": (list[str], {"help": "Columns to leave out."}),
    "categorical": (list[str], {"help": "Columns whose numbers are levels, as text is."}),
    "weights": (str, {"help": "The column of the examples' weights.", "metavar": "NAME"}),
    "impute": (
        str,
        {
            "help": "Fill in missing values; text gets its most frequent level. Else refuse them.",
            "metavar": "mean|median",
        },
    ),
    "missing": (
        list[str],
        {"help": "A word for a missing value, besides those like NA.", "metavar": "WORD"},
    ),
    "delimiter": (str, {"help": "Between the columns of a CSV. Else a comma.", "metavar": "SIGN"}),
}


def reads_a_file(needed: bool) -> Callable[[Callable], Callable]:
    """Give a command the argument DATA and the options of `Reading`, as one argument each.

    Args:
        needed: whether DATA must be given.
    """

    def parameter(name: str, annotation: Any, default: Any) -> inspect.Parameter:
        kind = inspect.Parameter.KEYWORD_ONLY
        return inspect.Parameter(name, kind, default=default, annotation=annotation)

    about = "A .csv, .tsv, .parquet, .feather or LIBSVM .svm file with a row for each example."
    argument = typer.Argument(help=about, show_default=False)
    kind = Annotated[Path, argument] if needed else Annotated[Path | None, argument]
    parameters = [parameter("data", kind, inspect.Parameter.empty if needed else None)]
    for name, (of, settings) in _HELP.items():
        if of == list[str]:
            settings = {"metavar": "NAME,…", **settings}
        declared = typer.Option(f"--{name}", show_default=False, **settings)
        parameters.append(parameter(name, Annotated[of | None, declared], None))
    declared = option("Centre the features, but leave them their scale.", "--no-standardize")
    parameters.append(parameter("no_standardize", Annotated[bool, declared], False))

    def decorate(command: Callable) -> Callable:
        own = inspect.signature(command).parameters
        rest = [parameter(p.name, p.annotation, p.default) for p in own.values()
                if p.name not in ("data", "reading")]  # fmt: skip

        @functools.wraps(command)
        def wrapped(data: Path | None, no_standardize: bool, **given: Any) -> None:
            from jaxlr.cli.data import Reading  # late, as this imports JAX

            options: dict[str, Any] = {
                name: tuple(value) if isinstance(value, list) else value
                for name in _HELP
                if (value := given.pop(name))
            }
            command(data, Reading(**options, standardize=not no_standardize), **given)

        wrapped.__signature__ = inspect.Signature([*parameters, *rest])  # pyright: ignore
        wrapped.__annotations__ = {p.name: p.annotation for p in [*parameters, *rest]}
        return wrapped

    return decorate
