"""The group of all commands, which knows the older spellings and turns every error into a line and an exit code."""

from __future__ import annotations

import os
import sys
import traceback
from typing import TYPE_CHECKING, Annotated, Final

import typer
from typer.core import TyperGroup

from ops.cli.exits import Exit
from pipeline.errors import PenstockError, ValidationError

if TYPE_CHECKING:
    from typing import NoReturn

    from typer._click import Command
    from typer._click import Context as AnyContext

OLDER_SPELLINGS: Final = frozenset({"jobs", "status", "pause", "resume", "cancel"})
"""`penstock index status ID` is `penstock status ID`; a folder of such a name is `./status`."""


class Commands(TyperGroup):
    """The group of all commands."""

    def resolve_command(self, ctx: AnyContext, args: list[str]) -> tuple[str | None, Command | None, list[str]]:
        """Return the command that the arguments name, in either spelling."""
        older = args[0] == "index" and len(args) > 1 and args[1] in OLDER_SPELLINGS
        return super().resolve_command(ctx, args[1:] if older else args)

    def invoke(self, ctx: AnyContext) -> None:
        """Run a command; its error becomes one line on stderr (with `--json` also an object on stdout) and a code."""
        as_json = "--json" in ctx.args
        try:
            super().invoke(ctx)
        except PenstockError as error:
            _fail(error.code, str(error), error.exit_code, as_json=as_json)
        except typer.TyperException as error:
            _fail(ValidationError.code, _usage(error), Exit.VALIDATION, as_json=as_json)
        except typer.Abort:
            _fail("INTERRUPTED", "nothing was changed", Exit.INTERRUPTED, as_json=as_json)
        except BrokenPipeError:
            _leave_pipe()
        except (typer.Exit, KeyboardInterrupt):
            raise
        except Exception as error:  # noqa: BLE001 - whatever it is, the user gets a line and scripts get a code
            _fail(PenstockError.code, _unexpected(error), Exit.INTERNAL, as_json=as_json)


def _fail(code: str, message: str, exit_code: int, *, as_json: bool) -> NoReturn:
    from ops.cli.output import emit_error, note

    note(f"error: {message}")
    if as_json:
        emit_error(code, message)
    raise typer.Exit(exit_code)


def _usage(error: typer.TyperException) -> str:
    message = error.format_message().rstrip(".")
    context: AnyContext | None = getattr(error, "ctx", None)
    return f"{message}; see `{context.command_path} --help`" if context else message


def _unexpected(error: Exception) -> str:
    if os.environ.get("PENSTOCK_LOG_LEVEL", "").upper() == "DEBUG":
        traceback.print_exception(error)
    first_line = str(error).partition("\n")[0]
    return f"{type(error).__name__}: {first_line}; this is a fault of Penstock, PENSTOCK_LOG_LEVEL=DEBUG shows where"


def _leave_pipe() -> NoReturn:
    """End quietly; what is still buffered for the reader that left must not fail at exit."""
    os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
    raise typer.Exit(Exit.BROKEN_PIPE)


app = typer.Typer(
    name="penstock",
    cls=Commands,
    help="Index large code repositories in the background, and search them by meaning.",
    epilog="Start with `penstock index` in a repository, then `penstock search 'where are retries limited'`.",
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)

db = typer.Typer(help="Migrate the database, or see where it stands.")
notify = typer.Typer(help="Notify services outside of what happens to jobs.")


@app.callback(invoke_without_command=True)
def penstock(
    ctx: typer.Context,
    *,
    version: Annotated[bool, typer.Option("--version", help="Print the version and exit.")] = False,
) -> None:
    """Index large code repositories in the background, and search them by meaning."""
    if version:
        from importlib.metadata import version as installed

        typer.echo(f"penstock {installed('penstock')}")
        raise typer.Exit
    if ctx.invoked_subcommand is None:
        typer.echo(ctx.get_help())
