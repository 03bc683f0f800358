"""The app of all commands, and what it does without one."""

import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

from jaxlr_command.ending import in_a_sentence

if TYPE_CHECKING:
    import typer


def main() -> None:
    """Run the command line."""
    for stream in (sys.stdout, sys.stderr):
        if hasattr(stream, "reconfigure"):
            # Where the encoding has no ±, a question mark is better than a traceback.
            stream.reconfigure(errors="replace")  # pyright: ignore[reportAttributeAccessIssue]
    with in_a_sentence():
        make_app()()


def make_app() -> "typer.Typer":
    """Return the commands: each declares its options in a file, and calls plain functions.

    Raises:
        MissingExtra: typer is not installed.
    """
    try:
        import typer
    except ModuleNotFoundError:
        from jaxlr.base.extras import require

        require("typer", "cli")
        raise
    from jaxlr_command import audit, fit, inspection, predict, sweep
    from jaxlr_command.options import option

    app = typer.Typer(
        add_completion=False,
        pretty_exceptions_enable=False,
        rich_markup_mode=None,
    )

    @app.callback(invoke_without_command=True)
    def jaxlr_(
        context: typer.Context,
        version: Annotated[bool, option("Show the version and exit.", "--version")] = False,
    ) -> None:
        """Logistic regression in JAX: many fits at once, each with a bound on its error."""
        if version:
            typer.echo(f"jaxlr {_version()}")
            raise typer.Exit()
        if context.invoked_subcommand is None:
            typer.echo(context.get_help())

    for command in (sweep, fit, predict, inspection, audit):
        command.register(app)
    return app


def _version() -> str:
    """Return jaxlr's version, read without importing jaxlr.

    >>> import jaxlr
    >>> _version() == jaxlr.__version__
    True
    """
    names = {}
    exec(Path(__file__).parents[1].joinpath("jaxlr", "version.py").read_text("utf-8"), names)
    return names["__version__"]
