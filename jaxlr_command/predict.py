"""The options of `jaxlr predict`."""

import json
from pathlib import Path
from typing import Annotated

import typer

from jaxlr_command.ending import in_a_sentence
from jaxlr_command.options import ModelFile, NoCache, option

_EXAMPLES = """\b
Examples:
  jaxlr predict model.npz new.csv -o scored.csv
  jaxlr predict model.npz new.csv --keep id --unseen base > scored.csv
  jaxlr predict model.npz new.parquet -o scored.parquet --json"""


def predict(
    model: ModelFile,
    data: Annotated[Path, typer.Argument(help="The rows to predict, as fit takes them.")],
    output: Annotated[
        Path | None,
        option(
            "Write them here, and not to the standard output.",
            "--output",
            "-o",
            metavar="FILE.csv|.parquet|.feather",
        ),
    ] = None,
    keep: Annotated[
        list[str] | None, option("Columns to copy, such as an id.", metavar="NAME,…")
    ] = None,
    unseen: Annotated[
        str,
        option(
            "A level that the model has not seen: refuse it, or count it as the base.",
            metavar="refuse|base",
        ),
    ] = "refuse",
    missing: Annotated[
        list[str] | None,
        option("A word for a missing value, besides the model's.", metavar="WORD"),
    ] = None,
    delimiter: Annotated[
        str | None, option("Between the columns of a CSV. Else a comma.", metavar="SIGN")
    ] = None,
    as_json: Annotated[bool, option("Print a summary as JSON; needs --output.", "--json")] = False,
    no_cache: NoCache = False,
) -> None:
    """Predict the rows of a file: the class, and the probability of each.

    Of two classes the probability is that of the positive one, which is the second unless
    --positive of the fit said otherwise. The rows are read and written a chunk at a time, in
    their order. Missing values are filled in as they were in the fit, and counted. If the file
    has the target, the log loss and the accuracy are told.

    Exit code: 0; 2 if a file or a row cannot be used, and then nothing is written; 130 if
    interrupted, likewise.
    """  # fmt: skip
    with in_a_sentence():
        from jaxlr.cli import inspection, predicting
        from jaxlr.cli.programs import use_cache

        use_cache(not no_cache)
        options = predicting.Options(tuple(keep or ()), unseen, tuple(missing or ()), delimiter)
        predicting.check_files(data, output, as_json)
        found = predicting.run(inspection.read(model), data, output, options)
        if as_json:
            typer.echo(json.dumps(predicting.content(found), allow_nan=False))
        else:
            typer.echo(predicting.told(found, output), err=output is None)


def register(app: typer.Typer) -> None:
    """Make it a command of an app."""
    app.command(epilog=_EXAMPLES)(predict)
