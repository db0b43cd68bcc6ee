"""Stays with a job until it has ended: workers are called, progress is shown, Ctrl-C leaves a job that can go on."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final, NoReturn

import typer

from ops import supervisor
from ops.cli.exits import OF_STATUS, Exit
from ops.cli.output import Screen, emit, note
from ops.cli.reports import print_end
from ops.cli.views import view_of
from ops.following import follow
from pipeline import jobs
from pipeline.describing import percent
from pipeline.states import TERMINAL

if TYPE_CHECKING:
    from uuid import UUID

    from ops.cli.desk import Desk

SHOWN_FILES: Final = 5


def call_workers(desk: Desk) -> None:
    """Make sure that local workers run; where they are somebody else's business, say when there are none."""
    supervisor.ensure(desk.settings)
    if desk.settings.database_url is not None and not jobs.online(desk.engine):
        note("warning: no worker is online, so the job waits; start some, `penstock worker --help` says how")


def attend(desk: Desk, job_id: UUID, *, as_json: bool, pauses: bool) -> NoReturn:
    """Follow a job, print its end, and exit by its outcome; Ctrl-C pauses it when `pauses`, else it goes on alone."""
    try:
        if jobs.status(desk.engine, job_id).status not in TERMINAL:
            call_workers(desk)
        with view_of(Screen(stderr=True)) as view:
            job = follow(desk.engine, job_id, view)
    except KeyboardInterrupt:
        _leave(desk, job_id, as_json=as_json, pauses=pauses)
        raise
    if as_json:
        emit(job)
    else:
        failed = [file for file in jobs.notes(desk.engine, job_id, SHOWN_FILES) if file.outcome == "failed"]
        print_end(job, failed)
    raise typer.Exit(OF_STATUS[job.status])


def _leave(desk: Desk, job_id: UUID, *, as_json: bool, pauses: bool) -> None:
    if not pauses:
        note(f"the job goes on; see it again: penstock status {job_id} --follow")
        return
    job = jobs.pause(desk.office, job_id)
    note(f"the job is paused at {percent(job.progress_percentage)}; go on: penstock resume {job_id}")
    if as_json:
        emit(job)
        raise typer.Exit(Exit.INTERRUPTED)
