"""The live page in a real browser: what is seen, what the keys do, and what it never does (issue 4, R23, R26, R30)."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Final

import pytest
from playwright.sync_api import expect
from pydantic import SecretStr

from pipeline import jobs
from pipeline.records import JobRequest
from pipeline.store.jobs import JobFilter
from tests.browsing import Visitor, chromium, visiting
from tests.driving import Driver
from tests.repositories import generate
from tests.serving import Client, free_port, serving, settings_for

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from playwright.sync_api import Browser, Page
    from sqlalchemy import Engine

    from ops.settings import Settings

SHOP: Final[dict[str, str | bytes]] = {
    "adding.py": 'def add_prices(first, second):\n    """Add two prices."""\n    return first + 20  # cents\n',
    "blob.py": b"\0\1\2",
    "<img src=x onerror=alert(1)>.js": "const hostile = '<img src=x onerror=alert(1)>'; // </script><script>alert(2)\n",
}
WIDEST: Final = "document.documentElement.scrollWidth"


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    """Yield a browser for the tests of this file."""
    with chromium() as browser:
        yield browser


@pytest.fixture
def settings(database_url: str, tmp_path: Path) -> Settings:
    """Return the settings of a site on this test's database."""
    return settings_for(database_url, tmp_path)


@pytest.fixture
def site(settings: Settings) -> Iterator[Client]:
    """Yield a site without workers."""
    with serving(settings) as client:
        yield client


@pytest.fixture
def visitor(browser: Browser, site: Client) -> Iterator[Visitor]:
    """Yield somebody who looks at the site."""
    with visiting(browser, site.url) as visitor:
        yield visitor


@pytest.fixture
def driver(engine: Engine) -> Driver:
    """Return a worker of all stages, which works when it is told to."""
    return Driver(engine)


@pytest.fixture
def root(tmp_path: Path) -> Path:
    """Return a repository of a good file, one that cannot be indexed and one that means harm."""
    root = tmp_path / "shop"
    root.mkdir()
    for name, content in SHOP.items():
        (root / name).write_bytes(content if isinstance(content, bytes) else content.encode())
    return root


def begin(driver: Driver, root: Path) -> None:
    """Submit a repository elsewhere, as the command line does."""
    jobs.submit(driver.office, JobRequest(repo_path=str(root)))


def start(page: Page, root: Path) -> None:
    """Start a job on the page."""
    page.get_by_label("Folder or git URL to index").fill(str(root))
    page.get_by_role("button", name="Start").click()


# --- jobs -------------------------------------------------------------------------------------------------------------


def test_an_empty_page_says_what_to_do_first(visitor: Visitor) -> None:
    """Nothing is indexed, and the way to the first job is named."""
    page = visitor.go()
    expect(page.get_by_role("heading", name="Nothing has been indexed yet")).to_be_visible()
    expect(page.get_by_text("penstock index")).to_be_visible()
    expect(page.get_by_role("status").filter(has_text="live")).to_be_visible()


def test_a_job_is_started_seen_to_move_and_cancelled(visitor: Visitor, driver: Driver, tmp_path: Path) -> None:
    """Every commit moves the water; a cancel asks first; no reload anywhere (R23, R26, R31)."""
    generate(tmp_path / "large", 40)
    page = visitor.go()
    start(page, tmp_path / "large")
    job = visitor.job("large")
    expect(page.get_by_text("in the background")).to_be_visible()
    expect(job).to_contain_text("no worker online for stage scan")
    driver.drain(until=lambda: jobs.listed(driver.engine, JobFilter()).jobs[0].files_indexed > 0)
    expect(job).to_have_attribute("data-status", "running")
    expect(job.get_by_role("progressbar", name="scan")).to_have_attribute("aria-valuenow", "100")
    expect(job.get_by_role("progressbar", name="write")).to_have_attribute(
        "aria-valuetext", re.compile(r"^\d+ / 40 files")
    )
    job.get_by_role("button", name="Cancel large").click()
    page.get_by_role("button", name="Keep the job").click()
    expect(job).to_have_attribute("data-status", "running")
    job.get_by_role("button", name="Cancel large").click()
    page.get_by_role("dialog").get_by_role("button", name="Cancel the job").click()
    expect(job).to_contain_text("Cancelled at")
    expect(job.get_by_role("button", name="Resume large")).to_be_visible()


def test_a_job_is_paused_and_resumed_and_its_successor_is_shown(visitor: Visitor, driver: Driver, root: Path) -> None:
    """Pause, resume, cancel, and resume into a new job, whose page opens (R30, R32)."""
    begin(driver, root)
    page = visitor.go()
    job = visitor.job("shop")
    job.get_by_role("button", name="Pause").click()
    expect(job.locator(".pill")).to_have_text("paused")
    job.get_by_role("button", name="Resume").click()
    expect(job.get_by_role("button", name="Pause")).to_be_visible()
    job.get_by_role("button", name="Cancel").click()
    page.get_by_role("dialog").get_by_role("button", name="Cancel the job").click()
    job.get_by_role("button", name="Resume").click()
    expect(page).to_have_url(re.compile("#/jobs/"))
    expect(page.locator(".facts")).to_contain_text("Resumes")


def test_a_job_tells_all_about_itself(visitor: Visitor, driver: Driver, root: Path) -> None:
    """Events, facts, and the files that were passed over, while it is looked at (R15, R64)."""
    begin(driver, root)
    page = visitor.go()
    visitor.job("shop").get_by_role("link").click()
    events = page.get_by_role("listitem")
    expect(events).to_have_count(1)
    driver.drain()
    expect(events.last).to_contain_text("completed")
    expect(events.first).to_contain_text("submitted")
    expect(page.get_by_role("row").filter(has_text="blob.py")).to_contain_text("binary")
    expect(page.locator(".facts")).to_contain_text("2 indexed")
    expect(page).to_have_title("completed · shop · Penstock")


def test_a_refused_folder_is_explained_and_nothing_is_lost(visitor: Visitor) -> None:
    """The error says what is wrong, and what was typed stays (R06)."""
    page = visitor.go()
    path = page.get_by_label("Folder or git URL to index")
    path.fill("relative/path")
    path.press("Enter")
    expect(page.get_by_role("alert")).to_contain_text("must be absolute")
    expect(path).to_have_value("relative/path")
    page.get_by_role("button", name="Close").click()
    expect(page.get_by_role("alert")).to_be_hidden()
    visitor.faults.clear()  # the browser itself notes each request that was refused


def test_jobs_can_be_filtered(visitor: Visitor, driver: Driver, root: Path) -> None:
    """A filter shows its states only, stays in the address, and is kept up to date."""
    begin(driver, root)
    page = visitor.go("#/?state=completed")
    expect(page.get_by_text("No job is completed.")).to_be_visible()
    driver.drain()
    expect(visitor.job("shop")).to_contain_text("2 indexed")
    page.get_by_role("link", name="active").click()
    expect(page.get_by_text("No job is active.")).to_be_visible()


# --- search -----------------------------------------------------------------------------------------------------------


def test_a_search_shows_code_in_colours_with_the_words_marked(visitor: Visitor, driver: Driver, root: Path) -> None:
    """The best passage, its lines numbered, its place a link into the editor that was chosen (R52)."""
    driver.index(root)
    page = visitor.go()
    page.get_by_role("searchbox").fill("add two prices")
    page.get_by_role("searchbox").press("Enter")
    hit = page.get_by_role("listitem").filter(has_text="adding.py").first
    expect(hit.locator("mark").filter(has_text="prices").first).to_be_visible()
    expect(hit.locator(".keyword").filter(has_text="return")).to_be_visible()
    expect(hit.locator(".comment")).to_have_text("# cents")
    place = hit.get_by_role("link")
    expect(place).to_have_attribute("href", re.compile(rf"^vscode://file{re.escape(str(root))}/adding\.py:\d+$"))
    page.get_by_label("Open in").select_option("JetBrains")
    expect(place).to_have_attribute("href", re.compile(r"^idea://open\?file=.*adding\.py&line=\d+$"))
    page.reload()
    expect(place).to_have_attribute("href", re.compile("^idea://"))


def test_a_result_shows_its_best_lines_below_the_class_they_are_in(
    visitor: Visitor, driver: Driver, root: Path
) -> None:
    """What begins in the middle of a method says in which, with the numbers of those lines (R52)."""
    body = "".join(f"        self.barley_{number} = order.barley_{number}\n" for number in range(240))
    (root / "mill.py").write_text(f"class Mill:\n    def grind(self, order):\n{body}")
    driver.index(root)
    page = visitor.go("#/search?query=barley_238&path=mill.py")
    hit = page.get_by_role("listitem").filter(has=page.get_by_label("Lies in")).first
    expect(hit.get_by_label("Lies in").locator(".row")).to_have_text(["class Mill:", "def grind(self, order):"])
    expect(hit.get_by_label("Lies in").locator(".row").last).to_have_attribute("data-line", "2")
    expect(hit.locator("mark").filter(has_text="238").first).to_be_visible()


def test_filters_narrow_a_search_and_say_so_when_nothing_is_left(visitor: Visitor, driver: Driver, root: Path) -> None:
    """Repository, language, kind and path; the address holds them, and going back undoes them (R52)."""
    driver.index(root)
    page = visitor.go("#/search?query=prices")
    expect(page.get_by_role("listitem")).not_to_have_count(0)
    page.get_by_label("Repository").select_option(str(root))
    page.get_by_label("Language").fill("go")
    page.get_by_label("Language").press("Enter")
    expect(page.get_by_text("Nothing was found; try other words")).to_be_visible()
    assert "language=go" in page.url
    page.go_back()
    expect(page.get_by_role("listitem")).not_to_have_count(0)


def test_what_a_repository_holds_is_text_and_nothing_else(visitor: Visitor, driver: Driver, root: Path) -> None:
    """Markup in names and contents is shown as it is, and nothing of it runs."""
    driver.index(root)
    page = visitor.go("#/search?query=hostile")
    expect(page.get_by_role("heading", name="<img src=x onerror=alert(1)>.js:1")).to_be_visible()
    expect(page.locator("code").filter(has_text="</script><script>alert(2)")).to_be_visible()
    assert page.locator("main img, main script").count() == 0


# --- keys, colours, sizes ---------------------------------------------------------------------------------------------


def test_the_keyboard_is_enough(visitor: Visitor, driver: Driver, root: Path) -> None:
    """Start, pause, open, search and read without a mouse; the focus is always seen."""
    page = visitor.go()
    expect(page.get_by_role("heading", name="Nothing has been indexed yet")).to_be_visible()
    page.keyboard.press("n")
    page.keyboard.type(str(root))
    page.keyboard.press("Enter")
    expect(visitor.job("shop")).to_be_visible()
    pause = visitor.job("shop").get_by_role("button", name="Pause")
    tab_to(page, "Pause shop")
    assert pause.evaluate("node => getComputedStyle(node).outlineStyle") == "solid"
    page.keyboard.press("Enter")
    expect(visitor.job("shop").locator(".pill")).to_have_text("paused")
    tab_to(page, "Resume shop")
    page.keyboard.press("Space")
    expect(pause).to_be_visible()
    driver.drain()
    page.keyboard.press("/")
    page.keyboard.type("add two prices")
    page.keyboard.press("Enter")
    expect(page.get_by_role("listitem").first).to_be_visible()
    page.keyboard.press("Escape")
    expect(page.get_by_role("searchbox")).not_to_be_focused()
    page.keyboard.press("n")
    expect(page.get_by_label("Folder or git URL to index")).to_be_focused()


def tab_to(page: Page, name: str) -> None:
    """Press Tab until the focus is on what has this name."""
    for _ in range(40):
        page.keyboard.press("Tab")
        if page.evaluate("document.activeElement.getAttribute('aria-label')") == name:
            return
    pytest.fail(f"Tab does not lead to {name}")


def test_changes_are_told_to_screen_readers(visitor: Visitor, driver: Driver, root: Path) -> None:
    """A change of state is announced once, politely; the numbers between are not."""
    begin(driver, root)
    page = visitor.go()
    expect(visitor.job("shop")).to_be_visible()
    driver.drain()
    said = page.locator("#said")
    expect(said).to_contain_text("shop: 100 %, Completed")
    expect(said).to_have_attribute("aria-live", "polite")


def test_colours_follow_the_system_and_the_button(browser: Browser, site: Client) -> None:
    """Dark and light by preference; a choice goes before it and is remembered."""
    ground = "getComputedStyle(document.body).backgroundColor"
    with visiting(browser, site.url) as light, visiting(browser, site.url, scheme="dark") as dark:
        bright, deep = (visitor.go().evaluate(ground) for visitor in (light, dark))
        assert bright != deep
        button = light.page.locator("#theme")
        button.click()
        assert light.page.evaluate(ground) == bright
        button.click()
        assert light.page.evaluate(ground) == deep
        light.page.reload()
        expect(button).to_have_attribute("aria-label", "Colours: dark")
        assert light.page.evaluate(ground) == deep


@pytest.mark.parametrize("width", [360, 1600])
def test_every_view_fits_its_window(browser: Browser, site: Client, driver: Driver, root: Path, width: int) -> None:
    """Nothing is scrolled sideways, on a phone or on a wide screen."""
    job = driver.index(root)
    with visiting(browser, site.url, width=width) as visitor:
        for address in ("#/", f"#/jobs/{job.job_id}", "#/search?query=prices", "#/repositories", "#/workers"):
            page = visitor.go(address)
            expect(page.locator("main h1")).to_be_visible()
            expect(page.locator(".loading")).to_have_count(0)
            assert page.evaluate(WIDEST) <= width, address


# --- when things go wrong ---------------------------------------------------------------------------------------------


def test_a_lost_connection_is_told_and_found_again(
    browser: Browser, settings: Settings, driver: Driver, root: Path
) -> None:
    """The page says that it may be old, and catches up by itself when the server is back."""
    begin(driver, root)
    port = free_port()
    with visiting(browser, f"http://127.0.0.1:{port}/") as visitor:
        with serving(settings, port=port):
            page = visitor.go()
            expect(visitor.job("shop").locator(".pill")).to_have_text("waiting")
        expect(page.get_by_role("alert")).to_contain_text("may be old")
        expect(page.get_by_role("status").filter(has_text="reconnecting")).to_be_visible()
        driver.drain()
        with serving(settings, port=port):
            expect(visitor.job("shop")).to_contain_text("2 indexed")
            expect(page.get_by_role("alert")).to_be_hidden()
        visitor.faults.clear()  # the browser itself notes each connection that was refused


def test_the_token_is_asked_for_once(browser: Browser, database_url: str, tmp_path: Path) -> None:
    """A wrong one is refused with words; the right one opens the page, and its stream."""
    token = "water finds its way"  # noqa: S105 - of this test
    settings = settings_for(database_url, tmp_path, penstock_serve_token=SecretStr(token))
    with serving(settings) as site, visiting(browser, site.url) as visitor:
        page = visitor.go()
        for typed in ("something else", token):
            page.get_by_label("This page asks for its token").fill(typed)
            page.get_by_role("button", name="Open").click()
            if typed != token:
                expect(page.get_by_role("alert")).to_contain_text("not the token")
        expect(page.get_by_role("status").filter(has_text="live")).to_be_visible()
        visitor.faults.clear()  # the browser itself notes the answer 401
