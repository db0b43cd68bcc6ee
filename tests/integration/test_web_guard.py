"""Who is let in: names, origins and tokens; and what every answer forbids the browser (issue 4, R30)."""

from __future__ import annotations

import json
from dataclasses import replace
from typing import TYPE_CHECKING, Final
from urllib.parse import urlencode

import pytest
from pydantic import SecretStr

from ops.cli.exits import Exit
from ops.settings import Settings
from ops.web.guard import Door
from ops.web.serving import bind, url_of
from pipeline.errors import PenstockError, ValidationError
from tests.commanding import open_terminal
from tests.serving import Answer, Client, serving, settings_for

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

TOKEN: Final = "water finds its way"  # noqa: S105 - of these tests
JSON: Final = {"Content-Type": "application/json"}
FORM: Final = {"Content-Type": "application/x-www-form-urlencoded"}
NAME: Final = "code.example"


@pytest.fixture
def site(database_url: str, tmp_path: Path) -> Iterator[Client]:
    """Yield a client of a site on the loopback, which needs no token."""
    with serving(settings_for(database_url, tmp_path)) as client:
        yield client


@pytest.fixture
def locked(database_url: str, tmp_path: Path) -> Iterator[Client]:
    """Yield a client of a site behind a proxy, which asks for a token."""
    names = {"penstock_serve_names": (NAME,), "penstock_serve_token": SecretStr(TOKEN)}
    with serving(settings_for(database_url, tmp_path, **names)) as client:
        yield client


def submission(site: Client, root: Path, **headers: str) -> int:
    """Submit a repository with these headers, and return the status."""
    body = json.dumps({"repo_path": str(root)})
    return site.ask("POST", "/api/jobs", body, {**JSON, **{k.replace("_", "-"): v for k, v in headers.items()}}).status


def log_in(site: Client, token: str, **headers: str) -> Answer:
    """Send the form."""
    return site.ask("POST", "/login", urlencode({"token": token}), {**FORM, **headers})


# --- names and origins ------------------------------------------------------------------------------------------------


def test_only_its_own_names_are_answered(site: Client) -> None:
    """A foreign name that points here (DNS rebinding) gets nothing, whatever is asked."""
    own = (f"127.0.0.1:{site.port}", f"localhost:{site.port}", f"[::1]:{site.port}", "LOCALHOST")
    assert {site.ask("GET", "/api/jobs", headers={"Host": name}).status for name in own} == {200}
    for name in ("evil.example", f"127.0.0.1.evil.example:{site.port}", "10.0.0.7", "127.0.0.1@evil.example", "[", ""):
        for path in ("/", "/api/jobs", "/api/events", "/healthz", "/static/app.js"):
            status, code, message = site.ask("GET", path, headers={"Host": name}).error
            assert (status, code, "PENSTOCK_SERVE_NAMES" in message) == (403, "FORBIDDEN", True)


def test_another_page_can_change_nothing(site: Client, tmp_path: Path) -> None:
    """A request with a foreign origin, or one that a plain form could send, is refused (cross-site forgery)."""
    foreign = ("https://evil.example", "null", "http://127.0.0.1:1", f"http://localhost:{site.port}", "file://")
    assert {submission(site, tmp_path, Origin=origin) for origin in foreign} == {403}
    for kind in ("text/plain", "application/x-www-form-urlencoded", "multipart/form-data; boundary=x", ""):
        assert submission(site, tmp_path, Content_Type=kind) == 415
    assert site.get("/api/jobs").json["total_count"] == 0
    assert submission(site, tmp_path, Origin=f"http://127.0.0.1:{site.port}") == 202


def test_a_proxy_may_change_the_host_and_not_the_origin(locked: Client, tmp_path: Path) -> None:
    """Both of a proxy's habits work, to hand the Host on or to write its own; other names stay strangers."""
    bearer = {"Authorization": f"Bearer {TOKEN}"}
    assert submission(locked, tmp_path, Host=NAME, Origin=f"https://{NAME}", **bearer) == 202
    assert submission(locked, tmp_path, Origin=f"https://{NAME}", **bearer) == 202
    assert submission(locked, tmp_path, Origin="https://other.example", **bearer) == 403
    assert submission(locked, tmp_path, Origin="http://localhost:3000", **bearer) == 403


# --- the token --------------------------------------------------------------------------------------------------------


def test_without_the_token_nothing_is_told(locked: Client) -> None:
    """Health, the form and the static files are open; everything else asks."""
    for path in ("/", "/api/jobs", "/api/events", "/api/search?query=x", "/nothing"):
        answer = locked.get(path)
        assert answer.error[:2] == (401, "UNAUTHORIZED")
        assert answer.headers["www-authenticate"] == "Bearer"
    assert {locked.get(path).status for path in ("/healthz", "/readyz", "/login", "/static/style.css")} == {200}
    for name in ("localhost/login#", "localhost/static/", "localhost:1/login?"):
        assert locked.ask("GET", "/api/jobs", headers={"Host": name}).status == 403
    browser = locked.ask("GET", "/", headers={"Accept": "text/html,*/*"})
    assert (browser.status, browser.headers["location"]) == (303, "/login")


def test_the_token_goes_in_a_header(locked: Client) -> None:
    """Scripts send it as a bearer; nearly right is wrong."""
    for given, status in ((TOKEN, 200), (TOKEN[:-1], 401), (TOKEN + "x", 401), ("", 401), ("\xfc", 401)):
        assert locked.ask("GET", "/api/jobs", headers={"Authorization": f"Bearer {given}"}).status == status
    assert locked.ask("GET", "/api/jobs", headers={"Authorization": f"Basic {TOKEN}"}).status == 401


def test_the_form_sets_a_cookie_that_scripts_cannot_read(locked: Client) -> None:
    """It does not hold the token, goes nowhere else, and opens the page."""
    wrong = log_in(locked, "water goes nowhere")
    assert (wrong.status, "not the token" in wrong.body, "set-cookie" in wrong.headers) == (401, True, False)
    answer = log_in(locked, TOKEN)
    assert (answer.status, answer.headers["location"]) == (303, "/")
    cookie, *attributes = answer.headers["set-cookie"].split("; ")
    assert {"HttpOnly", "SameSite=strict", "Path=/"} <= set(attributes)
    assert TOKEN not in cookie
    assert "Secure" in log_in(locked, TOKEN, **{"X-Forwarded-Proto": "https"}).headers["set-cookie"]
    assert locked.ask("GET", "/api/jobs", headers={"Cookie": cookie}).status == 200
    assert locked.ask("GET", "/api/jobs", headers={"Cookie": f"{cookie}0"}).status == 401


def test_the_form_is_refused_to_other_pages(locked: Client) -> None:
    """Nobody is logged in by somebody else's page."""
    assert log_in(locked, TOKEN, Origin="https://evil.example").status == 403


def test_the_log_has_no_token_and_no_query(locked: Client, capfd: pytest.CaptureFixture[str]) -> None:
    """What people search for and what lets them in stays out of it (R65)."""
    log_in(locked, TOKEN)
    locked.ask("GET", "/api/search?query=zebra", headers={"Authorization": f"Bearer {TOKEN}"})
    said = "".join(capfd.readouterr())
    assert "/api/search" in said
    assert "zebra" not in said
    assert TOKEN not in said


# --- where it may listen ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("host", ["0.0.0.0", "::", "192.0.2.7", "penstock.lan"])  # noqa: S104 - refused
def test_another_address_than_the_loopback_needs_a_token(host: str) -> None:
    """Without one it does not start, and says how to make one."""
    with pytest.raises(ValidationError, match="PENSTOCK_SERVE_TOKEN"):
        Door.of(Settings(), host)
    assert Door.of(Settings(penstock_serve_token=SecretStr(TOKEN)), host).token == TOKEN


def test_further_names_need_a_token() -> None:
    """Behind a proxy the loopback is no protection."""
    with pytest.raises(ValidationError, match="PENSTOCK_SERVE_TOKEN"):
        Door.of(Settings(penstock_serve_names=(NAME,)), "127.0.0.1")


def test_bound_to_every_address_each_address_is_a_name() -> None:
    """An address cannot be pointed elsewhere; a foreign name can."""
    door = Door.of(Settings(penstock_serve_token=SecretStr(TOKEN)), "0.0.0.0")  # noqa: S104 - with a token
    assert all(map(door.knows, ("192.0.2.7:8737", "[2001:db8::7]:8737", "localhost")))
    assert not any(map(door.knows, ("evil.example", "192.0.2.7.evil.example", "")))
    assert not replace(door, any_address=False).knows("192.0.2.7")


def test_the_command_refuses_before_it_listens(
    database_url: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A missing token, a short one and a taken port are a line each, and the token is not in it (R60)."""
    run = open_terminal(database_url, tmp_path, monkeypatch)
    assert "PENSTOCK_SERVE_TOKEN" in run("serve", "--host", "0.0.0.0", code=Exit.VALIDATION).stderr  # noqa: S104 - refused
    with bind("127.0.0.1", 0) as taken:
        port = taken.getsockname()[1]
        assert f"port {port}" in run("serve", "--port", str(port), code=Exit.INTERNAL).stderr
    monkeypatch.setenv("PENSTOCK_SERVE_TOKEN", "hunter2")
    said = run("serve", code=Exit.VALIDATION).stderr
    assert "at least 16" in said
    assert "hunter2" not in said


def test_an_address_that_is_not_ours_is_refused() -> None:
    """The text names it and says what to do."""
    with pytest.raises(PenstockError, match=r"192\.0\.2\.7 port 80.*--host"):
        bind("192.0.2.7", 80)


def test_the_address_that_is_told_can_be_opened() -> None:
    """It is one that a browser on this machine can reach."""
    assert [url_of(host, 8737) for host in ("127.0.0.1", "::1", "0.0.0.0", "penstock.lan")] == [  # noqa: S104 - a text
        f"http://{name}:8737/" for name in ("127.0.0.1", "[::1]", "127.0.0.1", "penstock.lan")
    ]


# --- what the browser is told -----------------------------------------------------------------------------------------


def test_every_answer_forbids_what_the_page_does_not_need(site: Client) -> None:
    """Scripts and styles come from here only, nothing inline; no frames, no sniffing, no referrer."""
    too_large = "/" + "x" * 1_100_000
    assert "content-security-policy" in site.post("/api/jobs", {"repo_path": too_large}).headers
    for path in ("/", "/login", "/static/app.js", "/api/jobs", "/api/nothing", "/healthz"):
        headers = site.get(path).headers
        policy = headers["content-security-policy"]
        assert policy.startswith("default-src 'none'; script-src 'self'; style-src 'self';")
        assert "frame-ancestors 'none'" in policy
        assert "require-trusted-types-for 'script'" in policy
        assert "unsafe" not in policy
        assert headers["x-content-type-options"] == "nosniff"
        assert headers["referrer-policy"] in {"no-referrer", "same-origin"}
        assert "access-control-allow-origin" not in headers


def test_no_file_beside_the_static_ones_is_served(site: Client) -> None:
    """Not by dots, not by their codes."""
    for path in ("/static/../guard.py", "/static/%2e%2e/guard.py", "/static/..%2fguard.py", "/static//etc/passwd"):
        assert site.get(path).status == 404
