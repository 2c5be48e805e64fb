"""The program `tutti`: its commands, and how errors reach a person.

An error is one line on standard error, `Error: <message>`, and exit code 1; a traceback only with `--debug`.
"""

from __future__ import annotations

import os
import sys
from typing import Annotated

import typer

import tutti
from tutti.cli import bench, doctor, fit, quantize, run, running, serve, show, speak, stored, trace, transfers
from tutti.errors import TuttiError

app = typer.Typer(
    name="tutti",
    help="One inference system for every modality and every machine.",
    epilog="Try: tutti run pico",
    rich_markup_mode=None,  # plain help: no flag's name is cut off on a narrow terminal
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)
app.command(cls=run.RunCommand)(run.run)
app.command(cls=serve.ServeCommand)(serve.serve)
app.command()(speak.speak)
app.command()(transfers.pull)
app.command()(transfers.push)
app.command("list")(stored.list_models)
app.command("ls", hidden=True)(stored.list_models)
app.command()(show.show)
app.command("cp")(stored.copy)
app.command()(running.ps)
app.command()(running.stop)
app.command("rm")(stored.remove)
app.command()(stored.create)
app.add_typer(bench.app, name="bench")
app.command()(trace.trace)
app.command()(fit.fit)
app.command()(quantize.quantize)
app.command()(doctor.doctor)


@app.callback(invoke_without_command=True)
def root(
    context: typer.Context,
    version: Annotated[bool, typer.Option("--version", "-v", help="Print the version and leave.")] = False,
    debug: Annotated[bool, typer.Option("--debug", help="Show where an error came from.")] = False,
) -> None:
    """One inference system for every modality and every machine."""
    if version:
        print(f"tutti version {tutti.__version__}")
    elif context.invoked_subcommand is None:
        print(context.get_help())


def main(arguments: list[str] | None = None) -> None:
    """Run the command line (the process's by default) and leave with its exit code."""
    arguments = sys.argv[1:] if arguments is None else arguments
    debug = "--debug" in arguments
    # --debug belongs to the program, but is often typed after the command.
    arguments = [argument for argument in arguments if argument != "--debug"]
    try:
        sys.exit(app(arguments, prog_name="tutti", standalone_mode=False))
    except (TuttiError, typer.TyperException, OSError) as error:
        if debug:
            raise
        sys.exit(_fail(error))
    except typer.Abort:
        sys.exit(_say("Error: interrupted", code=130))
    except Exception as error:  # the outermost edge: whatever it is, a person reads one line
        if debug:
            raise
        sys.exit(
            _say(
                f"Error: {type(error).__name__}: {error}\nThis is a bug in Tutti; `tutti --debug ...` shows where."
            )
        )


def _fail(error: TuttiError | typer.TyperException | OSError) -> int:
    if isinstance(error, BrokenPipeError):
        # Whoever read our output left. Nothing more may be written, not even at the interpreter's end.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 1
    return _say(f"Error: {error.format_message() if isinstance(error, typer.TyperException) else error}")


def _say(text: str, code: int = 1) -> int:
    print(text, file=sys.stderr)
    return code
