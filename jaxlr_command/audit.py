"""The options of `jaxlr audit`."""

from pathlib import Path
from typing import Annotated, Any

import typer
import typer.core

from jaxlr_command.ending import in_a_sentence
from jaxlr_command.options import NoCache, option

_OPTIONS = ("--grad", "--args", "--reference", "--plot")
_NO_VERDICT = 3  # the exit code of an audit that was not made: 0, 1 and 2 are verdicts

_EXAMPLES = """\b
Examples:
  jaxlr audit
  jaxlr audit mymodel:loss --args mymodel:example
  jaxlr audit mymodel:loss --grad mymodel:gradient --args point.npz
  jaxlr audit mymodel:loss --args point.npz --plot audit.png"""


class _Audit(typer.core.TyperCommand):
    """A command whose options, when they cannot be read, end it with no verdict."""

    def parse_args(self, *args: Any) -> list[str]:
        try:
            return super().parse_args(*args)
        except Exception as error:
            if getattr(error, "exit_code", 0):  # that of --help is 0
                error.exit_code = _NO_VERDICT  # pyright: ignore[reportAttributeAccessIssue]
            raise


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
    no_cache: NoCache = False,
) -> None:
    """Judge whether a gradient is right; without FUNCTION, jaxlr's own derivatives.

    The gradient of a scalar function has the structure that jax.grad's has; for a function
    of arrays it is called with one more argument u, and is that of the sum of u times the
    function.

    Exit code: 0 if it agrees with the evidence; 1 if it disagrees; 2 if the evidence cannot
    tell; 3 if no audit could be made.
    """
    with in_a_sentence(_NO_VERDICT):
        from jaxlr.cli import audit as auditing
        from jaxlr.cli.programs import use_cache
        from jaxlr.cli.refusal import Refusal
        from jaxlr.cli.sweep import check_files

        use_cache(not no_cache)
        check_files(plot, None)
        if function is None:
            given = (grad, args, reference, plot)
            for name, value in zip(_OPTIONS, given, strict=True):
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


def register(app: typer.Typer) -> None:
    """Make it a command of an app."""
    app.command(cls=_Audit, epilog=_EXAMPLES)(audit)
