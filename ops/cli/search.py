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
        "penstock search 'how is a job paused' --max-tokens 2000 --json",
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
    max_tokens: Annotated[
        int | None,
        typer.Option(
            "--max-tokens",
            metavar="N",
            help="Fit the answer into so many, at four characters each.",
            show_default="no bound",
        ),
    ] = None,
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
        max_tokens=max_tokens,
    )
    with opened() as desk:
        results = _ask(desk, request) if repo else _ask_around(desk, request)
    if as_json:
        emit(results)
    else:
        _print_results(results, SNIPPET_LINES if max_tokens is None else None)


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


def _print_results(results: SearchResults, snippet: int | None) -> None:
    """Print an answer; of the lines of a result at most `snippet`, all when that is None."""
    from ops.cli.output import note, say

    if results.index_state != "complete":
        note(f"the index is {results.index_state}: {results.coverage:.0%} of the known files can be found")
    if results.note:
        note(results.note)
    if not results.results:
        say("nothing was found; try other words, or fewer filters")
    several = len({hit.repository for hit in results.results}) > 1
    for hit in results.results:
        _print_hit(hit, snippet, several=several)
    if results.shortened or results.omitted:
        following = results.offset + len(results.results)
        further = f", {results.omitted} left out: --offset {following} goes on with them" if results.omitted else ""
        note(f"to fit --max-tokens, {results.shortened} results are not shown whole{further}")


def _print_hit(hit: SearchHit, snippet: int | None, *, several: bool) -> None:
    from ops.cli.output import Screen, clean

    screen = Screen()
    place = f"{hit.repository}/{hit.path}" if several else hit.path
    symbol = f"  {hit.symbol}" if hit.symbol else ""
    matched = f"  ({', '.join(hit.matched)})" if hit.matched else ""
    screen.print(clean(f"{place}:{hit.start_line}-{hit.end_line}{symbol}  {hit.score:.4f}{matched}"), style="bold")
    for line in hit.context:
        screen.print(clean(_numbered(line)), style="dim")
    if hit.shown == "whole":
        _print_lines(screen, hit, snippet)
    elif hit.content:
        screen.print(clean("\n".join(map(_numbered, hit.content.split("\n")))))
    screen.print()


def _print_lines(screen: Console, hit: SearchHit, snippet: int | None) -> None:
    """Print the code of a result, or of that `snippet` lines from where the best of it begins."""
    from ops.cli.output import clean

    lines = clean(hit.content).split("\n")
    before = (
        0 if snippet is None or len(lines) <= snippet else min(hit.best_line - hit.start_line, len(lines) - snippet)
    )
    after = len(lines) if snippet is None else before + snippet
    shown, first = "\n".join(lines[before:after]), hit.start_line + before
    if before:
        screen.print(f"       … {before} lines before", style="dim")
    if screen.is_terminal:
        _print_highlighted(screen, shown, hit.language, first)
    else:
        screen.print("\n".join(f"{number:6} {line}" for number, line in enumerate(shown.split("\n"), first)))
    if len(lines) > after:
        screen.print(f"       … {len(lines) - after} more lines", style="dim")


def _numbered(line: str) -> str:
    """Return a line that begins with its number as those beside it are printed."""
    number, colon, text = line.partition(": ")
    return f"{number:>6} {text}" if colon else f"{line:>6}"


def _print_highlighted(screen: Console, code: str, language: str, first: int) -> None:
    from rich.syntax import Syntax

    look = Syntax(code, language, theme="ansi_dark", background_color="default", line_numbers=True, start_line=first)
    screen.print(look, soft_wrap=False)
