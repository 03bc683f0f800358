"""The options of `jaxlr inspect`."""

import json

import typer

from jaxlr_command.ending import in_a_sentence
from jaxlr_command.options import AsJson, Level, ModelFile

_EXAMPLES = """\b
Examples:
  jaxlr inspect model.npz
  jaxlr inspect model.npz --level 0.99 --json"""


def inspect(
    model: ModelFile,
    level: Level = 0.95,
    as_json: AsJson = False,
) -> None:
    """Show a model: coefficients with intervals, odds ratios, fit quality, how it was made.

    Exit code: 0; 2 if the file is no model.
    """
    with in_a_sentence():
        from jaxlr.cli import inspection

        found = inspection.read(model)
        if as_json:
            typer.echo(json.dumps(inspection.content(found, level), allow_nan=False))
        else:
            inspection.show(found, level, inspection.made_of(found))


def register(app: typer.Typer) -> None:
    """Make it a command of an app."""
    app.command(epilog=_EXAMPLES)(inspect)
