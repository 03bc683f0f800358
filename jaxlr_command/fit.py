"""The options of `jaxlr fit`."""

import json
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from jaxlr_command.ending import fail_if, in_a_sentence
from jaxlr_command.options import AsJson, Level, NoCache, option, reads_a_file

if TYPE_CHECKING:
    from jaxlr.cli.data import Reading


_EXAMPLES = """\b
Examples:
  jaxlr fit patients.csv --target sick
  jaxlr fit patients.csv --target sick --exclude id,name -o model.npz
  jaxlr fit patients.csv --target sick --impute median --l2 0.01
  jaxlr fit visits.parquet --target left --categorical plan --weights count"""


@reads_a_file(needed=True)
def fit(
    data: Path,
    reading: "Reading",
    l2: Annotated[
        float | None,
        option("The penalty; 0 for none.", show_default="1/m, scikit-learn's C = 1"),
    ] = None,
    level: Level = 0.95,
    output: Annotated[
        Path | None, option("Write the model.", "--output", "-o", metavar="FILE.npz")
    ] = None,
    as_json: AsJson = False,
    no_cache: NoCache = False,
) -> None:
    """Fit one penalty to a file, and show the coefficients.

    A column of text becomes a feature for each of its levels but the most frequent, the
    base. Every feature is standardised, by the mean and standard deviation of the values that
    are there; coefficients are shown in the user's units as well.
    The objective is the mean log loss plus l2/2 times the sum of squared weights.
    Computes in float32; set JAX_ENABLE_X64=1 for float64.

    Exit code: 0; 1 if the fit failed; 2 if the options or the file cannot be used; 130 if
    interrupted.
    """
    with in_a_sentence():
        from jaxlr.cli import fit as fitting
        from jaxlr.cli.data import read
        from jaxlr.cli.programs import use_cache
        from jaxlr.cli.sweep import check_files

        use_cache(not no_cache)
        check_files(None, output)
        examples = read(data, reading, lambda zeros: fitting.run(zeros, l2))
        found = fitting.run(examples, l2)
        if as_json:
            typer.echo(json.dumps(fitting.content(found, level), allow_nan=False))
        else:
            fitting.show(found, level)
        fitting.write(found, output)
    fail_if(fitting.failure(found))


def register(app: typer.Typer) -> None:
    """Make it a command of an app."""
    app.command(epilog=_EXAMPLES)(fit)
