"""`penstock search`: ask, and read the best passages."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Final

import typer

from ops.cli.app import app
from ops.cli.completing import kinds, languages, repositories
from ops.cli.exits import Exit
from ops.cli.index import absolute
from ops.cli.manual import SEARCHING, epilog
from ops.cli.options import AnyProject, AsJson, Offset

if TYPE_CHECKING:
    from rich.console import Console

    from ops.cli.desk import Desk
    from pipeline.records import SearchHit, SearchResults
    from pipeline.search import SearchRequest

SNIPPET_LINES: Final = 12
Names = list[str] | None


@app.command(
    rich_help_panel=SEARCHING,
    epilog=epilog(
        "penstock search 'where are retries limited'",
        "penstock search parse --kind function --language python",
        "penstock search 'lock file' --path 'src/**' --limit 3 --json",
        exits=(Exit.NOT_FOUND, Exit.EMBEDDER),
        see="penstock repos, penstock index",
    ),
)
def search(
    query: Annotated[list[str], typer.Argument(metavar="QUERY", help="What to look for, in words or in code.")],
    *,
    repo: Annotated[
        str | None,
        typer.Option(
            "--repo",
            metavar="PATH",
            help="The repository.",
            show_default="the one around you, else all",
            autocompletion=repositories,
        ),
    ] = None,
    project: AnyProject = None,
    path: Annotated[
        str | None, typer.Option("--path", metavar="GLOB", help="Only files whose path in the repository matches.")
    ] = None,
    language: Annotated[
        Names,
        typer.Option("--language", metavar="NAME", help="Only this; may be repeated.", autocompletion=languages),
    ] = None,
    kind: Annotated[
        Names,
        typer.Option(
            "--kind", metavar="NAME", help="Only function, class, method, …; may be repeated.", autocompletion=kinds
        ),
    ] = None,
    limit: Annotated[int, typer.Option("--limit", metavar="N", help="How many, 1 to 50.")] = 10,
    offset: Offset = 0,
    as_json: AsJson = False,
) -> None:
    """Search by meaning and by words, also while a job runs."""
    from ops.cli.desk import opened
    from ops.cli.output import emit
    from pipeline.search import SearchRequest

    request = SearchRequest(
        query=" ".join(query),
        project_id=project,
        repo_path=absolute(repo) if repo else None,
        path_glob=path,
        languages=tuple(language or ()),
        kinds=tuple(kind or ()),
        limit=limit,
        offset=offset,
    )
    with opened() as desk:
        results = _ask(desk, request) if repo else _ask_around(desk, request)
    if as_json:
        emit(results)
    else:
        _print_results(results, several=len({hit.repository for hit in results.results}) > 1)


def _ask(desk: Desk, request: SearchRequest) -> SearchResults:
    from ops.office import embedder_for
    from pipeline.search import search as answer

    return answer(desk.engine, embedder_for(desk.settings), request)


def _ask_around(desk: Desk, request: SearchRequest) -> SearchResults:
    """Search the innermost repository that holds the current folder; all of them when none does."""
    from dataclasses import replace

    from ops.cli.output import note
    from pipeline.errors import RepositoryNotFound

    here = Path.cwd()
    for folder in (here, *here.parents):
        try:
            results = _ask(desk, replace(request, repo_path=folder))
        except RepositoryNotFound:
            continue
        note(f"searched {folder}; --repo PATH names another repository")
        return results
    note("searched all repositories; --repo PATH names one")
    return _ask(desk, request)


def _print_results(results: SearchResults, *, several: bool) -> None:
    from ops.cli.output import note, say

    if results.index_state != "complete":
        note(f"the index is {results.index_state}: {results.coverage:.0%} of the known files can be found")
    if results.note:
        note(results.note)
    if not results.results:
        say("nothing was found; try other words, or fewer filters")
    for hit in results.results:
        _print_hit(hit, several=several)


def _print_hit(hit: SearchHit, *, several: bool) -> None:
    from ops.cli.output import Screen, clean

    screen = Screen()
    place = f"{hit.repository}/{hit.path}" if several else hit.path
    symbol = f"  {hit.symbol}" if hit.symbol else ""
    screen.print(clean(f"{place}:{hit.start_line}-{hit.end_line}{symbol}  {hit.score:.4f}"), style="bold")
    lines = clean(hit.content).split("\n")
    shown = "\n".join(lines[:SNIPPET_LINES])
    if screen.is_terminal:
        _print_highlighted(screen, shown, hit)
    else:
        screen.print("\n".join(f"{number:6} {line}" for number, line in enumerate(shown.split("\n"), hit.start_line)))
    if len(lines) > SNIPPET_LINES:
        screen.print(f"       … {len(lines) - SNIPPET_LINES} more lines", style="dim")
    screen.print()


def _print_highlighted(screen: Console, code: str, hit: SearchHit) -> None:
    from rich.syntax import Syntax

    look = Syntax(
        code, hit.language, theme="ansi_dark", background_color="default", line_numbers=True, start_line=hit.start_line
    )
    screen.print(look, soft_wrap=False)
