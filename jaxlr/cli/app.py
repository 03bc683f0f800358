"""The commands and their options; errors in a sentence."""

import contextlib
import json
import shlex
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import jaxlr
from jaxlr import report as reporting
from jaxlr.cli import audit as auditing
from jaxlr.cli import fit as fitting
from jaxlr.cli import inspection, predicting
from jaxlr.cli import sweep as sweeping
from jaxlr.cli.data import read
from jaxlr.cli.reading import Reading, reads_a_file
from jaxlr.cli.refusal import Refusal
from jaxlr.extras import MissingExtra, require
from jaxlr.files import WriteError
from jaxlr.tables import TableError

if TYPE_CHECKING:
    import typer

# \b keeps the lines that follow as they are.
_EXAMPLES = """\b
Examples:
  jaxlr sweep
  jaxlr sweep patients.csv --target sick --output model.npz
  jaxlr sweep --dataset digits --plot digits.png --output digits.npz
  jaxlr sweep --penalties 50 --l2-min 1e-5 --folds 10 --json > sweep.json
  jaxlr sweep --report sweep.html"""
_FIT_EXAMPLES = """\b
Examples:
  jaxlr fit patients.csv --target sick
  jaxlr fit patients.csv --target sick --exclude id,name --impute median -o model.npz
  jaxlr fit visits.parquet --target left --categorical plan,region --weights count --l2 0.01"""
_PREDICT_EXAMPLES = """\b
Examples:
  jaxlr predict model.npz new.csv -o scored.csv
  jaxlr predict model.npz new.csv --keep id --unseen base > scored.csv
  jaxlr predict model.npz new.parquet -o scored.parquet --json"""
_INSPECT_EXAMPLES = """\b
Examples:
  jaxlr inspect model.npz
  jaxlr inspect model.npz --level 0.99 --json"""
_AUDIT_EXAMPLES = """\b
Examples:
  jaxlr audit
  jaxlr audit mymodel:loss --args mymodel:example
  jaxlr audit mymodel:loss --grad mymodel:gradient --args point.npz --plot audit.png"""
_AUDIT_OPTIONS = ("--grad", "--args", "--reference", "--plot")
_NO_VERDICT = 3  # the exit code of an audit that was not made: 0, 1 and 2 are verdicts


def main() -> None:
    """Run the command line."""
    for stream in (sys.stdout, sys.stderr):
        if hasattr(stream, "reconfigure"):
            # Where the encoding has no ±, a question mark is better than a traceback.
            stream.reconfigure(errors="replace")  # pyright: ignore[reportAttributeAccessIssue]
    with _in_a_sentence():
        make_app()()


def make_app() -> "typer.Typer":
    """Return the commands: each declares its options here, and calls plain functions.

    Raises:
        MissingExtra: typer is not installed.
    """
    require("typer", "cli")
    import typer
    import typer.core

    app = typer.Typer(
        add_completion=False,
        pretty_exceptions_enable=False,
        rich_markup_mode=None,
    )

    def option(help: str, *names: str, **settings: Any) -> Any:
        return typer.Option(*names, help=help, **settings)

    @app.callback(invoke_without_command=True)
    def jaxlr_(
        context: typer.Context,
        version: Annotated[bool, option("Show the version and exit.", "--version")] = False,
    ) -> None:
        """Logistic regression in JAX: many fits at once, each with a bound on its error."""
        if version:
            typer.echo(f"jaxlr {jaxlr.__version__}")
            raise typer.Exit()
        if context.invoked_subcommand is None:
            typer.echo(context.get_help())

    @app.command(epilog=_EXAMPLES)
    @reads_a_file(needed=False)
    def sweep(
        data: Path | None,
        reading: Reading,
        dataset: Annotated[
            sweeping.Dataset | None,
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
        as_json: Annotated[bool, option("Print JSON, and nothing else.", "--json")] = False,
    ) -> None:
        """Choose the penalty by cross-validation, on a file or on a data set of scikit-learn.

        The objective is the mean log loss plus l2/2 times the sum of squared weights, so that
        scikit-learn's C is 1/(l2 m) for m examples. Every column is standardised first; with
        --no-standardize it is centred only.
        Computes in float32; set JAX_ENABLE_X64=1 for float64.

        Exit code: 0; 1 if a fit failed; 2 if the options or the file cannot be used; 130 if
        interrupted.
        """
        with _in_a_sentence():
            sweeping.check_files(plot, output, report)
            if data is None and reading != Reading():
                raise Refusal("Give DATA, the file that --target and the like are about.")
            if data is not None and dataset is not None:
                raise Refusal(f"--dataset {dataset}: {data} is given as well; give one of them.")
            grid = (penalties, l2_min, l2_max, folds, seed)
            if data is None:
                examples = sweeping.load(dataset or sweeping.Dataset.breast_cancer)
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
                reporting.write(report, found, shlex.join(["jaxlr", *sys.argv[1:]]))
        failed = sweeping.failure(found)
        if failed:
            typer.echo(f"jaxlr: {failed}", err=True)
            raise typer.Exit(1)

    @app.command(epilog=_FIT_EXAMPLES)
    @reads_a_file(needed=True)
    def fit(
        data: Path,
        reading: Reading,
        l2: Annotated[
            float | None,
            option("The penalty; 0 for none.", show_default="1/m, scikit-learn's C = 1"),
        ] = None,
        level: Annotated[float, option("Of the intervals.", min=0.01, max=0.9999)] = 0.95,
        output: Annotated[
            Path | None, option("Write the model.", "--output", "-o", metavar="FILE.npz")
        ] = None,
        as_json: Annotated[bool, option("Print JSON, and nothing else.", "--json")] = False,
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
        with _in_a_sentence():
            sweeping.check_files(None, output)
            examples = read(data, reading, lambda zeros: fitting.run(zeros, l2))
            found = fitting.run(examples, l2)
            if as_json:
                typer.echo(json.dumps(fitting.content(found, level), allow_nan=False))
            else:
                fitting.show(found, level)
            fitting.write(found, output)
        failed = fitting.failure(found)
        if failed:
            typer.echo(f"jaxlr: {failed}", err=True)
            raise typer.Exit(1)

    @app.command(epilog=_PREDICT_EXAMPLES)
    def predict(
        model: Annotated[Path, typer.Argument(help="A model that fit or sweep has written.")],
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
        as_json: Annotated[
            bool, option("Print a summary as JSON; needs --output.", "--json")
        ] = False,
    ) -> None:
        """Predict the rows of a file: the class, and the probability of each.

        Of two classes the probability is that of the second. The rows are read and written a
        chunk at a time, in their order. Missing values are filled in as they were in the fit, and
        counted. If the file has the target, the log loss and the accuracy are told.

        Exit code: 0; 2 if a file or a row cannot be used, and then nothing is written; 130 if
        interrupted, likewise.
        """  # fmt: skip
        with _in_a_sentence():
            options = predicting.Options(tuple(keep or ()), unseen, tuple(missing or ()), delimiter)
            predicting.check_files(data, output, as_json)
            found = predicting.run(inspection.read(model), data, output, options)
            if as_json:
                typer.echo(json.dumps(predicting.content(found), allow_nan=False))
            else:
                typer.echo(predicting.told(found, output), err=output is None)

    @app.command(epilog=_INSPECT_EXAMPLES)
    def inspect(
        model: Annotated[Path, typer.Argument(help="A model that fit or sweep has written.")],
        level: Annotated[float, option("Of the intervals.", min=0.01, max=0.9999)] = 0.95,
        as_json: Annotated[bool, option("Print JSON, and nothing else.", "--json")] = False,
    ) -> None:
        """Show a model: coefficients with intervals, odds ratios, fit quality, how it was made.

        Exit code: 0; 2 if the file is no model.
        """
        with _in_a_sentence():
            found = inspection.read(model)
            if as_json:
                typer.echo(json.dumps(inspection.content(found, level), allow_nan=False))
            else:
                inspection.show(found, level, inspection.made_of(found))

    class Audit(typer.core.TyperCommand):
        """A command whose options, when they cannot be read, end it with no verdict."""

        def parse_args(self, *args: Any) -> list[str]:
            try:
                return super().parse_args(*args)
            except Exception as error:
                if getattr(error, "exit_code", 0):  # that of --help is 0
                    error.exit_code = _NO_VERDICT  # pyright: ignore[reportAttributeAccessIssue]
                raise

    @app.command(cls=Audit, epilog=_AUDIT_EXAMPLES)
    def audit(
        function: Annotated[
            str | None,
            typer.Argument(help="Whose gradient to judge: module:function.", show_default=False),
        ] = None,
        grad: Annotated[
            str | None, option("The gradient: module:function. Else what JAX derives.")
        ] = None,
        args: Annotated[
            str | None,
            option(
                "Where: an .npz file of arrays named as the parameters are, or in their order; "
                "or module:function, which returns a tuple."
            ),
        ] = None,
        reference: Annotated[
            str | None, option("Another way to compute the function: module:function.")
        ] = None,
        plot: Annotated[
            Path | None, option("Draw the Taylor test: .png, .svg or .pdf.", metavar="FILE")
        ] = None,
    ) -> None:
        """Judge whether a gradient is right; without FUNCTION, jaxlr's own derivatives.

        The gradient of a scalar function has the structure that jax.grad's has; for a function
        of arrays it is called with one more argument u, and is that of the sum of u times the
        function.

        Exit code: 0 if it agrees with the evidence; 1 if it disagrees; 2 if the evidence cannot
        tell; 3 if no audit could be made.
        """
        with _in_a_sentence(_NO_VERDICT):
            sweeping.check_files(plot, None)
            if function is None:
                given = (grad, args, reference, plot)
                for name, value in zip(_AUDIT_OPTIONS, given, strict=True):
                    if value is not None:
                        raise Refusal(f"{name} {value}: name the FUNCTION that it belongs to.")
                text, verdict = auditing.own()
                typer.echo(text)
                raise typer.Exit(int(verdict))
            if args is None:
                raise Refusal(f"{function}: say where with --args, a file or module:function.")
            report = auditing.judge(function, grad, reference, args)
            typer.echo(str(report))
            if plot is not None:
                auditing.draw(report, plot)
        raise typer.Exit(int(report.verdict))

    return app


@contextlib.contextmanager
def _in_a_sentence(code: int = 2) -> Iterator[None]:
    """Say what went wrong in place of a traceback, and end with an exit code."""
    try:
        yield
    except (Refusal, MissingExtra, TableError, WriteError) as error:
        print(f"jaxlr: {error}", file=sys.stderr)
        sys.exit(code)
    except BrokenPipeError:  # nobody reads on, as after `| head`
        raise
    except OSError as error:  # files that are written raise WriteError
        what = f"{error.filename} cannot be read"
        if error.filename is None:
            what = "standard output cannot be written"
            with contextlib.suppress(OSError):
                sys.stdout.close()  # else Python tries again at its exit
        print(f"jaxlr: {what}: {error.strerror or error}.", file=sys.stderr)
        sys.exit(code)
