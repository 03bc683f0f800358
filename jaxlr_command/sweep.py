"""The options of `jaxlr sweep`."""

import enum
import json
import shlex
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from jaxlr_command.ending import fail_if, in_a_sentence
from jaxlr_command.options import AsJson, NoCache, option, reads_a_file

if TYPE_CHECKING:
    from jaxlr.cli.data import Reading

Dataset = enum.StrEnum("Dataset", ["breast_cancer", "digits", "iris", "wine"])

# \b keeps the lines that follow as they are.
_EXAMPLES = """\b
Examples:
  jaxlr sweep
  jaxlr sweep patients.csv --target sick --output model.npz
  jaxlr sweep --dataset digits --plot digits.png --output digits.npz
  jaxlr sweep --penalties 50 --l2-min 1e-5 --folds 10 --json > sweep.json
  jaxlr sweep --report sweep.html"""


@reads_a_file(needed=False)
def sweep(
    data: Path | None,
    reading: "Reading",
    dataset: Annotated[
        Dataset | None,
        option(
            "Without DATA: what scikit-learn brings; all but the first have many classes.",
            show_default="breast_cancer",
        ),
    ] = None,
    folds: Annotated[int, option("Folds, stratified by class.", min=2)] = 5,
    penalties: Annotated[int, option("How many, evenly spaced in the logarithm.", min=2)] = 20,
    l2_min: Annotated[float, option("The weakest penalty.")] = 1e-4,
    l2_max: Annotated[float, option("The strongest penalty.")] = 1.0,
    seed: Annotated[int, option("Of the draw of folds.", min=0, max=2**32 - 1)] = 0,
    plot: Annotated[
        Path | None, option("Draw loss and coefficients: .png, .svg or .pdf.", metavar="FILE")
    ] = None,
    output: Annotated[
        Path | None,
        option(
            "Write the best model, fitted to all data.",
            "--output",
            "-o",
            metavar="FILE.npz",
        ),
    ] = None,
    report: Annotated[
        Path | None, option("Write a page: table, pictures, model.", metavar="FILE.html")
    ] = None,
    as_json: AsJson = False,
    no_cache: NoCache = False,
) -> None:
    """Choose the penalty by cross-validation, on a file or on a data set of scikit-learn.

    The objective is the mean log loss plus l2/2 times the sum of squared weights, so that
    scikit-learn's C is 1/(l2 m) for m examples. Every column is standardised first; with
    --no-standardize it is centred only.
    Computes in float32; set JAX_ENABLE_X64=1 for float64.

    Exit code: 0; 1 if a fit failed; 2 if the options or the file cannot be used; 130 if
    interrupted.
    """
    with in_a_sentence():
        from jaxlr.cli import sweep as sweeping
        from jaxlr.cli.data import Reading, load, read
        from jaxlr.cli.programs import use_cache
        from jaxlr.cli.refusal import Refusal

        use_cache(not no_cache)
        sweeping.check_files(plot, output, report)
        if data is None and reading != Reading():
            raise Refusal("Give DATA, the file that --target and the like are about.")
        if data is not None and dataset is not None:
            raise Refusal(f"--dataset {dataset}: {data} is given as well; give one of them.")
        grid = (penalties, l2_min, l2_max, folds, seed)
        if data is None:
            examples = load(dataset or Dataset.breast_cancer)
        else:
            examples = read(
                data,
                reading,
                lambda zeros: sweeping.model(sweeping.run(zeros, *grid)),
                lambda counts: sweeping.check_folds(folds, counts),
            )
        found = sweeping.run(examples, *grid)
        if as_json:
            typer.echo(json.dumps(sweeping.content(found), allow_nan=False))
        else:
            sweeping.show(found)
        # Last: if a disk is full, what was computed has been told.
        sweeping.write(found, plot, output)
        if report is not None:
            from jaxlr.report import write

            write(report, found, shlex.join(["jaxlr", *sys.argv[1:]]))
    fail_if(sweeping.failure(found))


def register(app: typer.Typer) -> None:
    """Make it a command of an app."""
    app.command(epilog=_EXAMPLES)(sweep)
