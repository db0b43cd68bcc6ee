"""The settings: what is read, from where, and what is refused."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Final

import pytest
from pydantic import SecretStr

from ops.settings import Settings, default_home
from pipeline.errors import ValidationError
from pipeline.records import Limits

EXAMPLE: Final = (Path(__file__).parents[2] / ".env.example").read_text()
DOCUMENTED: Final = dict(re.findall(r"^#([A-Z_]+)=(.*)$", EXAMPLE, re.MULTILINE))
OTHER_VALUES: Final[dict[str, tuple[str, object]]] = {
    "PENSTOCK_HOME": ("/elsewhere", Path("/elsewhere")),
    "DATABASE_URL": ("postgres://u:p@host/db", "postgresql://u:p@host/db"),
    "PENSTOCK_EMBEDDER": ("ollama", "ollama"),
    "OLLAMA_HOST": ("far:11434/", "http://far:11434"),
    "OLLAMA_EMBEDDING_MODEL": ("other", "other"),
    "OLLAMA_BATCH_SIZE": ("8", 8),
    "OLLAMA_CONCURRENCY": ("3", 3),
    "OLLAMA_TIMEOUT_SECONDS": ("2.5", 2.5),
    "OLLAMA_KEEP_ALIVE": ("1h", "1h"),
    "PENSTOCK_ALLOWED_ROOTS": ("/srv/a:/srv/b c", (Path("/srv/a"), Path("/srv/b c"))),
    "PENSTOCK_ALLOWED_URLS": ("https://h/a git@h:a/", ("https://h/a", "git@h:a/")),
    "MAX_REPO_SIZE_GB": ("0.5", 0.5),
    "MAX_FILE_SIZE_MB": ("2", 2.0),
    "PENSTOCK_MIN_FREE_DISK_GB": ("0", 0.0),
    "MAX_CONCURRENT_INDEXING_JOBS": ("5", 5),
    "INDEXING_JOB_TIMEOUT_SECONDS": ("60", 60.0),
    "BLOCKED_TIMEOUT_SECONDS": ("30", 30.0),
    "JOB_STATUS_RETENTION_DAYS": ("1", 1.0),
    "JOB_WINDOW": ("4", 4),
    "PENSTOCK_BATCH_TIMEOUT_SECONDS": ("2.5", 2.5),
    "PENSTOCK_WORKER_MEMORY_MB": ("0", 0),
    "PENSTOCK_IDLE_SECONDS": ("5", 5.0),
    "PENSTOCK_SERVE_HOST": ("::1", "::1"),
    "PENSTOCK_SERVE_PORT": ("0", 0),
    "PENSTOCK_SERVE_NAMES": ("code.example, penstock.lan", ("code.example", "penstock.lan")),
    "PENSTOCK_SERVE_TOKEN": ("a token of this test", SecretStr("a token of this test")),
    "PENSTOCK_NOTIFY_URLS": ("json://a?to=b,c, desktop", (SecretStr("json://a?to=b,c"), SecretStr("desktop"))),
    "PENSTOCK_NOTIFY_EVENTS": ("failed, completed", ("failed", "completed")),
    "PENSTOCK_NOTIFY_INTERVAL_SECONDS": ("0", 0.0),
    "PENSTOCK_NOTIFY_MIN_SECONDS": ("2.5", 2.5),
    "PENSTOCK_LOG_LEVEL": ("debug", "DEBUG"),
    "PENSTOCK_LOG_FORMAT": ("json", "json"),
}


@pytest.fixture(autouse=True)
def home(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Path:
    """Return an empty PENSTOCK_HOME, with nothing else in the environment."""
    for variable in DOCUMENTED:
        monkeypatch.delenv(variable, raising=False)
    monkeypatch.setenv("PENSTOCK_HOME", str(tmp_path))
    return tmp_path


def test_every_variable_is_documented_and_every_documented_one_exists() -> None:
    """The names in .env.example are those of Settings, none more and none less (R66)."""
    assert sorted(DOCUMENTED) == sorted(field.upper() for field in Settings.model_fields)


@pytest.mark.parametrize("variable", sorted(OTHER_VALUES))
def test_a_variable_of_the_environment_is_read(variable: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Each documented variable changes its setting (R66)."""
    text, value = OTHER_VALUES[variable]
    monkeypatch.setenv(variable, text)

    assert getattr(Settings.load(), variable.lower()) == value


def test_no_documented_variable_goes_untested() -> None:
    """The table of values above has a row for each documented variable (R66)."""
    assert sorted(OTHER_VALUES) == sorted(DOCUMENTED)


@pytest.mark.parametrize("variable", sorted(set(DOCUMENTED) - {"PENSTOCK_HOME"}))
def test_the_documented_default_is_the_default(variable: str, home: Path) -> None:
    """Reading .env.example's values gives the same settings as reading nothing (R66)."""
    default = Settings.load()
    (home / ".env").write_text(f"{variable}={DOCUMENTED[variable]}\n")

    assert Settings.load() == default


def test_the_file_in_the_home_is_read_and_the_environment_goes_before_it(
    home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """PENSTOCK_HOME/.env fills in what the environment leaves open."""
    (home / ".env").write_text("JOB_WINDOW=3\nOLLAMA_BATCH_SIZE=7\n")
    monkeypatch.setenv("JOB_WINDOW", "9")

    settings = Settings.load()

    assert (settings.job_window, settings.ollama_batch_size) == (9, 7)


def test_the_file_in_the_working_folder_is_not_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A .env of somebody's repository, which we are called in, changes nothing."""
    repository = tmp_path / "repository"
    repository.mkdir()
    (repository / ".env").write_text("JOB_WINDOW=3\n")
    monkeypatch.chdir(repository)

    assert Settings.load().job_window == Settings.model_fields["job_window"].default


def test_the_plain_words_of_the_environment_are_not_ours(monkeypatch: pytest.MonkeyPatch) -> None:
    """HOME, EMBEDDER or LOG_LEVEL of other programs move nothing."""
    expected = Settings.load()
    for name in ("HOME", "EMBEDDER", "LOG_LEVEL"):
        monkeypatch.setenv(name, "/nowhere")

    assert Settings.load() == expected


def test_an_empty_variable_means_the_default(monkeypatch: pytest.MonkeyPatch) -> None:
    """`DATABASE_URL=` in a container's settings is the embedded server."""
    monkeypatch.setenv("DATABASE_URL", "")
    monkeypatch.setenv("JOB_WINDOW", "")

    assert Settings.load().database_url is None


def test_the_home_follows_the_platform(monkeypatch: pytest.MonkeyPatch) -> None:
    """Without PENSTOCK_HOME the data lies where the platform keeps a user's data."""
    monkeypatch.delenv("PENSTOCK_HOME")
    monkeypatch.setattr("sys.platform", "linux")
    monkeypatch.setenv("XDG_DATA_HOME", "/data")
    assert Settings.load().penstock_home == Path("/data/penstock")

    monkeypatch.delenv("XDG_DATA_HOME")
    monkeypatch.setenv("HOME", "/home/ann")
    assert default_home() == Path("/home/ann/.local/share/penstock")

    monkeypatch.setattr("sys.platform", "darwin")
    assert default_home() == Path("/home/ann/Library/Application Support/penstock")


@pytest.mark.parametrize(
    ("variable", "value", "said"),
    [
        ("JOB_WINDOW", "0", "JOB_WINDOW=0: Input should be greater than or equal to 1"),
        ("MAX_FILE_SIZE_MB", "big", "MAX_FILE_SIZE_MB=big: Input should be a valid number"),
        ("MAX_REPO_SIZE_GB", "nan", "MAX_REPO_SIZE_GB=nan: Input should be"),
        ("PENSTOCK_EMBEDDER", "openai", "PENSTOCK_EMBEDDER=openai: Input should be 'local' or 'ollama'"),
        ("PENSTOCK_ALLOWED_ROOTS", "srv", "PENSTOCK_ALLOWED_ROOTS=srv: 'srv' should be an absolute path"),
        ("PENSTOCK_BATCH_TIMEOUT_SECONDS", "0", "PENSTOCK_BATCH_TIMEOUT_SECONDS=0: Input should be greater than 0"),
        ("PENSTOCK_WORKER_MEMORY_MB", "64", "PENSTOCK_WORKER_MEMORY_MB=64: it should be 0 (no bound) or at least 256"),
        ("DATABASE_URL", "mysql://u:secret@h/d", "DATABASE_URL: it should be postgresql://"),
        ("PENSTOCK_LOG_LEVEL", "loud", "PENSTOCK_LOG_LEVEL=LOUD: Input should be 'DEBUG'"),
    ],
)
def test_a_bad_value_is_named_with_what_is_allowed(
    variable: str, value: str, said: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The error is one line: the variable, its value unless secret, and what is allowed."""
    monkeypatch.setenv(variable, value)

    with pytest.raises(ValidationError) as refused:
        Settings.load()

    assert str(refused.value).startswith(said)
    assert "\n" not in str(refused.value)
    assert "secret" not in str(refused.value)


def test_every_bad_value_has_its_line(monkeypatch: pytest.MonkeyPatch) -> None:
    """Two bad variables are both named, so that they can be mended at once."""
    monkeypatch.setenv("JOB_WINDOW", "x")
    monkeypatch.setenv("OLLAMA_CONCURRENCY", "y")

    with pytest.raises(ValidationError) as refused:
        Settings.load()

    assert [line.partition("=")[0] for line in str(refused.value).splitlines()] == ["OLLAMA_CONCURRENCY", "JOB_WINDOW"]


def test_the_settings_never_show_the_password(monkeypatch: pytest.MonkeyPatch) -> None:
    """Printing the settings, as a log line might, hides the database's URL (R65)."""
    monkeypatch.setenv("DATABASE_URL", "postgresql://u:secret@h/d")

    assert "secret" not in repr(Settings.load())


def test_the_limits_are_the_settings_in_bytes(monkeypatch: pytest.MonkeyPatch) -> None:
    """Without any variable the limits are those of the stages; a variable moves its own (R08, R16, R37, R41)."""
    assert Settings.load().limits() == Limits()
    monkeypatch.setenv("MAX_REPO_SIZE_GB", "0.5")
    monkeypatch.setenv("MAX_FILE_SIZE_MB", "0.25")
    monkeypatch.setenv("MAX_CONCURRENT_INDEXING_JOBS", "2")
    monkeypatch.setenv("JOB_WINDOW", "4")

    assert Settings.load().limits() == Limits(
        max_file_bytes=250_000, max_repository_bytes=2**29, max_running_jobs=2, job_window=4
    )
