"""The tools on a real database, asked by the official client; what workers would do is done by the tests."""

from __future__ import annotations

import asyncio
from itertools import pairwise
from typing import TYPE_CHECKING, Annotated, Any, Final, Literal

import pytest
from mcp.client.extension import ClaimContext, ClientExtension, ResultClaim
from mcp.types import CallToolResult, Request, RequestParams, Result
from pydantic import ConfigDict, Field
from sqlalchemy import text

from ops.mcp_server.server import make_shim
from ops.mcp_server.tasks import EXTENSION
from ops.settings import Settings
from pipeline import jobs
from pipeline.states import Stage
from tests.acceptance.working import eventually
from tests.agents import connected, talk, text_of
from tests.commanding import NOBODY_LISTENS, make_shop
from tests.driving import Driver
from tests.repositories import generate, git, repository, write

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from pathlib import Path

    from mcp.server import MCPServer
    from sqlalchemy import Engine

NOBODYS_ID: Final = "3fa85f64-5717-4562-b3fc-2c963f66afa6"
SOON: Final = 20.0
"""Seconds: a call that may wait for 45 and returns within this was woken."""
LISTENERS: Final = text(
    "SELECT count(*) FROM pg_stat_activity WHERE datname = current_database() AND query ILIKE 'LISTEN%'"
)


@pytest.fixture
def settings(database_url: str, tmp_path: Path) -> Settings:
    """Return settings for this test's database."""
    return settings_for(database_url, tmp_path)


def settings_for(database_url: str, folder: Path, **others: object) -> Settings:
    """Return settings for a database."""
    known = {"database_url": database_url, "penstock_home": folder / "home", "penstock_min_free_disk_gb": 0}
    return Settings.model_validate(known | others)


@pytest.fixture
def shim(settings: Settings) -> MCPServer[Any]:
    """Return a shim on this test's database."""
    return make_shim(settings)


async def until(question: Callable[[], object]) -> None:
    """Return when the answer is true."""
    await asyncio.to_thread(eventually, question, SOON)


def tokens(answer: CallToolResult) -> float:
    """Return roughly how many tokens a model reads: a quarter of the characters."""
    return len(text_of(answer)) / 4


def test_errors_say_their_code_and_what_to_do(shim: MCPServer[Any], driver: Driver, tmp_path: Path) -> None:
    """Bad input, unknown ids and wrong states are told apart, and each says what to do next (R06, R20, R31, R53)."""
    job = driver.index(make_shop(tmp_path))

    async def conversation() -> None:
        async with connected(shim) as agent:
            for path in ("shop", "~/shop", "/srv/../etc", ""):
                code, words = await agent.refused("start_indexing_background", repo_path=path)
                assert code == "VALIDATION_ERROR", words
            code, words = await agent.refused("search_code", query="x", repo_path="~/shop")
            assert (code, "without ~" in words) == ("VALIDATION_ERROR", True)
            code, words = await agent.refused("search_code", query="x", repo_path=str(tmp_path))
            assert code == "REPOSITORY_NOT_FOUND"
            assert f"call start_indexing_background with repo_path='{tmp_path}'" in words
            code, words = await agent.refused("get_indexing_status", job_id="last")
            assert (code, "valid UUID" in words) == ("VALIDATION_ERROR", True)
            code, words = await agent.refused("get_indexing_status", job_id=NOBODYS_ID)
            assert (code, "list_background_jobs" in words) == ("JOB_NOT_FOUND", True)
            code, words = await agent.refused("pause_indexing", job_id=str(job.job_id))
            assert (code, "completed" in words) == ("INVALID_STATUS", True)
            code, words = await agent.refused("cancel_indexing_background", job_id=str(job.job_id))
            assert (code, "confirm=true" in words) == ("VALIDATION_ERROR", True)
            code, words = await agent.refused("cancel_indexing_background", job_id=str(job.job_id), confirm=True)
            assert code == "INVALID_STATUS"
            code, words = await agent.refused("search_code", query="x", language="python")
            assert (code, "language: Extra inputs" in words) == ("VALIDATION_ERROR", True)
            code, words = await agent.refused("search_code", query="x" * 2_001)
            assert (code, "at most 2,000" in words) == ("VALIDATION_ERROR", True)

    talk(conversation)


@pytest.fixture
def driver(engine: Engine) -> Driver:
    """Return a worker in this process."""
    return Driver(engine)


def test_an_agent_names_a_git_repository_by_url_and_branch(
    shim: MCPServer[Any], driver: Driver, tmp_path: Path
) -> None:
    """A branch out of git's objects is indexed, found under its name, and unknown under another (R61, R73)."""
    git(repository(tmp_path / "work", {"a.py": "def add(a, b):\n    return a + b\n"}), "branch", "team/next")
    url = f"file://{tmp_path}/work#team/next"

    async def conversation() -> None:
        async with connected(shim) as agent:
            started = await agent.ask("start_indexing_background", repo_path=url)
            await asyncio.to_thread(driver.drain)
            found = await agent.ask("search_code", query="add", repo_path=url)
            assert started["repo_path"] == f"{tmp_path}/work#team/next"
            assert [hit["path"] for hit in found["results"]] == ["a.py"]
            code, words = await agent.refused("search_code", query="add", repo_path="https://example.org/app.git")
            assert (code, "repo_path='https://example.org/app.git'" in words) == ("REPOSITORY_NOT_FOUND", True)
            code, words = await agent.refused("search_code", query="add", repo_path="https://me:word@example.org/app")
            assert (code, "holds credentials" in words) == ("VALIDATION_ERROR", True)

    talk(conversation)


def test_a_database_that_is_away_is_an_error_until_it_is_back(tmp_path: Path) -> None:
    """The protocol is served without a database; each call says that it is away, and tries again (R61)."""
    away = settings_for(f"postgresql://nobody@{NOBODY_LISTENS}/nothing", tmp_path)

    async def conversation() -> None:
        async with connected(make_shim(away)) as agent:
            assert len(await agent.tools()) == 8
            for _ in range(2):
                code, words = await agent.refused("list_repositories")
                assert (code, "penstock doctor" in words) == ("DATABASE_ERROR", True)

    talk(conversation)


def test_agents_stay_inside_the_allowed_roots(database_url: str, tmp_path: Path) -> None:
    """PENSTOCK_ALLOWED_ROOTS holds for agents as for anybody (R06)."""
    root = make_shop(tmp_path)
    shim = make_shim(settings_for(database_url, tmp_path, penstock_allowed_roots=(tmp_path / "other",)))

    async def conversation() -> None:
        async with connected(shim) as agent:
            code, words = await agent.refused("start_indexing_background", repo_path=str(root))
            assert (code, "outside the allowed roots" in words) == ("VALIDATION_ERROR", True)

    talk(conversation)


def test_a_wait_ends_when_the_job_does_and_tells_progress(shim: MCPServer[Any], driver: Driver, tmp_path: Path) -> None:
    """Being admitted and getting on wakes nobody; progress is told, and grows; the end wakes (R20, R26)."""
    generate(tmp_path / "shop", 40)

    async def conversation() -> None:
        async with connected(shim) as agent:
            started = await agent.ask("start_indexing_background", repo_path=str(tmp_path / "shop"))
            assert "No worker is online" in started["next_step"]
            waiting = asyncio.create_task(agent.ask("get_indexing_status", job_id=started["job_id"], wait_seconds=45))
            await until(lambda: agent.progress)
            await asyncio.to_thread(driver.drain, Stage.SCAN)
            await until(lambda: agent.progress[-1][0] >= 10)
            assert not waiting.done()
            await asyncio.to_thread(driver.drain)
            async with asyncio.timeout(SOON):
                answer = await waiting
            assert (answer["status"], answer["progress_percentage"]) == ("completed", 100)
            assert "search_code" in answer["next_step"]
            assert all(one < two for (one, _), (two, _) in pairwise(agent.progress))

    talk(conversation)


def test_a_wait_ends_when_somebody_else_pauses_the_job(
    shim: MCPServer[Any], settings: Settings, driver: Driver, tmp_path: Path
) -> None:
    """Of two clients one waits and the other pauses, and later cancels: both wake the one (R30-R32)."""
    job_id = str(driver.begin(make_shop(tmp_path)))

    async def conversation() -> None:
        async with connected(shim) as waiter, connected(make_shim(settings)) as other:
            for tool, options, status in (
                ("pause_indexing", {}, "paused"),
                ("cancel_indexing_background", {"confirm": True}, "cancelled"),
            ):
                waiter.progress.clear()
                waiting = asyncio.create_task(waiter.ask("get_indexing_status", job_id=job_id, wait_seconds=45))
                await until(lambda: waiter.progress)
                assert (await other.ask(tool, job_id=job_id, **options))["status"] == status
                async with asyncio.timeout(SOON):
                    assert (await waiting)["status"] == status
                    again = await waiter.ask("get_indexing_status", job_id=job_id, wait_seconds=45)
                    assert again["status"] == status, "what rests is not waited for"
                if status == "paused":
                    assert (await other.ask("resume_indexing", job_id=job_id))["status"] == "pending"
            successor = await other.ask("resume_indexing", job_id=job_id)
            assert (successor["resumed_from"], successor["status"]) == (job_id, "pending")

    talk(conversation)


def _listeners(engine: Engine) -> int:
    with engine.connect() as connection:
        return int(connection.execute(LISTENERS).scalar_one())


def test_a_wait_that_is_given_up_lets_go_of_its_connection(
    shim: MCPServer[Any], driver: Driver, tmp_path: Path
) -> None:
    """Ten calls that wait listen on one connection; when they are cancelled it is closed (R62)."""
    job_id = str(driver.begin(make_shop(tmp_path)))

    async def conversation() -> None:
        async with connected(shim) as agent:
            waits = [
                asyncio.create_task(agent.call("get_indexing_status", job_id=job_id, wait_seconds=45))
                for _ in range(10)
            ]
            await until(lambda: len(agent.progress) == 10 and _listeners(driver.engine))
            assert _listeners(driver.engine) == 1
            for waiting in waits:
                waiting.cancel()
            await until(lambda: not _listeners(driver.engine))
            assert (await agent.ask("get_indexing_status", job_id=job_id, wait_seconds=1))["status"] == "pending"

    talk(conversation)


def test_default_answers_are_small_and_details_come_on_request(
    shim: MCPServer[Any], driver: Driver, tmp_path: Path
) -> None:
    """What an agent gets unasked fits its context; stages, counters and reasons are one option away (R15, R23)."""
    generate(tmp_path / "large", 40)
    driver.index(tmp_path / "large")
    job = driver.index(make_shop(tmp_path))
    for number in range(12):
        driver.begin(write(tmp_path / f"shop-{number}", {"adding.py": ""}))

    async def conversation() -> None:
        async with connected(shim) as agent:
            status = await agent.call("get_indexing_status", job_id=str(job.job_id))
            assert tokens(status) < 150
            detail = await agent.ask("get_indexing_status", job_id=str(job.job_id), detail=True)
            assert [stage["stage"] for stage in detail["stages"]] == list(Stage)
            assert (detail["files_indexed"], detail["files_skipped"]) == (1, 1)
            assert [(file["path"], file["outcome"]) for file in detail["files"]] == [("blob.py", "skipped")]
            page = await agent.call("list_background_jobs")
            assert tokens(page) < 1_300
            assert page.structured_content is not None
            assert (len(page.structured_content["jobs"]), page.structured_content["total_count"]) == (10, 14)
            queued = await agent.ask("list_background_jobs", status=["queued"], limit=1)
            assert (queued["jobs"][0]["status"], queued["total_count"]) == ("pending", 12)
            assert tokens(await agent.call("list_repositories")) < 700
            found = await agent.call("search_code", query="load orders by customer", repo_path=str(tmp_path / "large"))
            assert tokens(found) <= 2_500
            assert found.structured_content is not None
            assert len(found.structured_content["results"]) == 8

    talk(conversation)


def test_a_search_fits_its_budget_and_says_what_it_shortened(
    shim: MCPServer[Any], driver: Driver, tmp_path: Path
) -> None:
    """The whole answer stays within max_tokens; results shrink to lines and names, and the rest is counted (R52)."""
    body = "".join(f"        total = total + order.weight_{number}\n" for number in range(30))
    pack, weigh = (f"    def {name}(self, order):\n        total = 0\n{body}\n" for name in ("pack", "weigh"))
    write(tmp_path / "shop", {f"scale{number}.py": f"class Scale:\n{pack}{weigh}" for number in range(6)})
    driver.index(tmp_path / "shop")
    question = {"query": "weigh an order", "repo_path": str(tmp_path / "shop")}

    async def conversation() -> None:
        async with connected(shim) as agent:
            whole = await agent.ask("search_code", **question, max_tokens=12_000)
            assert (whole["index_state"], whole["coverage"], len(whole["results"])) == ("complete", 1.0, 8)
            assert whole["repository"] == question["repo_path"]
            assert not {"note", "shortened", "omitted"} & whole.keys()
            assert (whole["results"][0]["symbol"], whole["results"][0]["context"]) == (
                "Scale.weigh",
                ["1: class Scale:"],
            )
            for most in (250, 600, 1_500):
                answer = await agent.call("search_code", **question, max_tokens=most)
                found = answer.structured_content
                assert found is not None
                assert tokens(answer) <= most
                assert found["results"][0]["path"] == whole["results"][0]["path"]
                assert len(found["results"]) + found.get("omitted", 0) == 8
                assert found["shortened"] == sum("shown" in hit for hit in found["results"])
                assert "larger max_tokens" in found["note"]
                assert ("offset=" in found["note"]) == ("omitted" in found)
                for hit in found["results"]:
                    assert ("content" in hit) == (hit.get("shown") != "reference")

    talk(conversation)


def test_a_search_of_what_is_not_complete_names_the_job(shim: MCPServer[Any], driver: Driver, tmp_path: Path) -> None:
    """An agent that finds little learns that the index is being built, or that nobody builds it (R52)."""
    root = make_shop(tmp_path)
    job_id = str(driver.begin(root))

    async def conversation() -> None:
        async with connected(shim) as agent:
            answer = await agent.ask("search_code", query="add", repo_path=str(root))
            assert (answer["results"], answer["coverage"]) == ([], 0.0)
            assert f"Job {job_id} is indexing it" in answer["next_step"]
            await agent.ask("cancel_indexing_background", job_id=job_id, confirm=True)
            answer = await agent.ask("search_code", query="add", repo_path=str(root))
            assert "start_indexing_background completes it" in answer["next_step"]
            code, words = await agent.refused("search_code", query="add", repo_path=str(root), project_id="other")
            assert (code, "but in default" in words) == ("REPOSITORY_NOT_FOUND", True)
            (root / "inner").mkdir()
            code, words = await agent.refused("search_code", query="add", repo_path=str(root / "inner"))
            assert (code, f"repo_path='{root}' and path_glob='inner/**'" in words) == ("REPOSITORY_NOT_FOUND", True)

    talk(conversation)


class TaskHandle(Result):
    """A task, as a server answers a call with it."""

    model_config = ConfigDict(extra="allow")
    result_type: Annotated[Literal["task"], Field(alias="resultType")] = "task"
    task_id: Annotated[str, Field(alias="taskId")]


class AskedTask(Result):
    """A task, as a server answers a request for it."""

    model_config = ConfigDict(extra="allow")


class TaskParams(RequestParams):
    """Which task."""

    task_id: Annotated[str, Field(alias="taskId")]


class AskForTask(Request[TaskParams, str]):
    """`tasks/get` or `tasks/cancel`."""


class TasksClient(ClientExtension):
    """What a client does with a task: it asks until the task has ended."""

    identifier = EXTENSION

    def __init__(self, work: Callable[[], object], told: list[dict[str, Any]]) -> None:
        self._work = work
        self._told = told

    def claims(self) -> Sequence[ResultClaim[Any]]:
        """Take tasks for results of calls."""
        return (ResultClaim(result_type="task", model=TaskHandle, resolve=self._resolve),)

    async def _resolve(self, task: TaskHandle, context: ClaimContext) -> CallToolResult:
        while True:
            asked = AskForTask(method="tasks/get", params=TaskParams(task_id=task.task_id))
            answer = await context.session.send_request(asked, AskedTask)
            self._told.append(answer.model_dump(by_alias=True))
            if self._told[-1]["status"] != "working":
                return CallToolResult.model_validate(self._told[-1]["result"])
            await asyncio.to_thread(self._work)


def test_a_client_with_tasks_gets_a_task_that_is_the_job(shim: MCPServer[Any], driver: Driver, tmp_path: Path) -> None:
    """The tool for tasks is shown to those who understand it; the task's id is the job's, and its end the job's."""
    root = make_shop(tmp_path)
    told: list[dict[str, Any]] = []

    async def conversation() -> None:
        async with connected(shim, extensions=[TasksClient(driver.drain, told)]) as agent:
            assert len(await agent.tools()) == 9
            answer = await agent.ask("index_repository", repo_path=str(root))
            assert [task["status"] for task in told] == ["working", "completed"]
            assert (answer["status"], answer["job_id"]) == ("completed", told[0]["taskId"])
            assert jobs.status(driver.engine, answer["job_id"]).files_indexed == 1

    talk(conversation)


@pytest.mark.parametrize("mode", ["auto", "legacy"])
def test_a_client_without_tasks_gets_the_job_at_once(mode: str, shim: MCPServer[Any], tmp_path: Path) -> None:
    """Neither era shows the tool to those who did not ask for tasks; called anyway, it answers like its sibling."""
    root = make_shop(tmp_path)

    async def conversation() -> None:
        async with connected(shim, mode) as agent:
            assert len(await agent.tools()) == 8
            answer = await agent.ask("index_repository", repo_path=str(root))
            assert (answer["status"], answer["progress_percentage"]) == ("pending", 0)

    talk(conversation)
