"""The settings: read once at the door, from the environment and PENSTOCK_HOME/.env, and frozen."""

from __future__ import annotations

import os
import re
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Final, Literal, Self

import pydantic
from pydantic import AfterValidator, BeforeValidator, Field, SecretStr
from pydantic_settings import BaseSettings, DotEnvSettingsSource, NoDecode, SettingsConfigDict

from pipeline.errors import ValidationError
from pipeline.records import Limits, NotifyRules
from pipeline.states import NOTIFIABLE

if TYPE_CHECKING:
    from pydantic_core import ErrorDetails
    from pydantic_settings import PydanticBaseSettingsSource

GIGABYTE: Final = 1024**3
MEGABYTE: Final = 1_000_000
LEAST_MEMORY: Final = 256
"""Megabytes below which a worker process cannot even begin."""
SHORTEST_TOKEN: Final = 16
SECRETS: Final = frozenset({"DATABASE_URL", "PENSTOCK_NOTIFY_URLS", "PENSTOCK_SERVE_TOKEN"})
"""The variables whose values are shown nowhere."""
SERVICE: Final = re.compile(r"desktop|[a-z][a-z0-9+.-]*://\S*", re.IGNORECASE)
NEXT_SERVICE: Final = re.compile(rf"\s+|,\s*(?={SERVICE.pattern})", re.IGNORECASE)
"""A comma may be part of a URL; one before another URL is not."""


def default_home() -> Path:
    """Return where this platform keeps a user's data of ours."""
    if sys.platform == "darwin":
        return Path.home() / "Library" / "Application Support" / "penstock"
    return Path(os.environ.get("XDG_DATA_HOME") or Path.home() / ".local" / "share") / "penstock"


def _folder(path: Path) -> Path:
    return path.expanduser().absolute()


def _split(value: object) -> object:
    return tuple(filter(None, value.split(os.pathsep))) if isinstance(value, str) else value


def _words(value: object) -> object:
    return tuple(value.split()) if isinstance(value, str) else value


def _absolute(root: Path) -> Path:
    if not root.is_absolute():
        message = f"{str(root)!r} should be an absolute path; several are separated by {os.pathsep!r}"
        raise ValueError(message)
    return root


def _postgresql(url: str) -> str:
    scheme, _, rest = url.partition("://")
    if scheme.partition("+")[0] not in {"postgresql", "postgres"}:
        message = "it should be postgresql://user:password@host:port/database"
        raise ValueError(message)
    return f"postgresql://{rest}"


def _http(address: str) -> str:
    """Complete an address as Ollama's own client does: `host:port` is plain HTTP."""
    return (address if "://" in address else f"http://{address}").rstrip("/")


def _upper(value: object) -> object:
    return value.upper() if isinstance(value, str) else value


def _services(value: object) -> object:
    return tuple(filter(None, NEXT_SERVICE.split(value))) if isinstance(value, str) else value


def _reachable(urls: tuple[SecretStr, ...]) -> tuple[SecretStr, ...]:
    for position, url in enumerate(urls, 1):
        if not SERVICE.fullmatch(url.get_secret_value()):
            message = f"entry {position} is neither `desktop` nor a URL like json://host/path; several go with spaces"
            raise ValueError(message)
    return urls


def _events(value: object) -> object:
    return tuple(re.findall(r"[^\s,]+", value)) if isinstance(value, str) else value


def _known_events(names: tuple[str, ...]) -> tuple[str, ...]:
    if strange := [name for name in names if name not in NOTIFIABLE]:
        message = f"{strange[0]!r} is no event; there are {', '.join(NOTIFIABLE)}"
        raise ValueError(message)
    return names


def _enough_memory(megabytes: int) -> int:
    if 0 < megabytes < LEAST_MEMORY:
        message = f"it should be 0 (no bound) or at least {LEAST_MEMORY}"
        raise ValueError(message)
    return megabytes


def _split_names(value: object) -> object:
    return tuple(filter(None, map(str.strip, value.split(",")))) if isinstance(value, str) else value


def _hard_to_guess(token: SecretStr) -> SecretStr:
    text = token.get_secret_value()
    if len(text) < SHORTEST_TOKEN or not text.isascii():
        message = f"it should have at least {SHORTEST_TOKEN} characters, all ASCII, as from `openssl rand -hex 32`"
        raise ValueError(message)
    return token


Folder = Annotated[Path, AfterValidator(_folder)]
Roots = Annotated[tuple[Annotated[Path, AfterValidator(_absolute)], ...], NoDecode, BeforeValidator(_split)]
Urls = Annotated[tuple[str, ...], NoDecode, BeforeValidator(_words)]
DatabaseUrl = Annotated[str, AfterValidator(_postgresql)]
Address = Annotated[str, AfterValidator(_http)]
LogLevel = Annotated[Literal["DEBUG", "INFO", "WARNING", "ERROR", "CRITICAL"], BeforeValidator(_upper)]
Amount = Annotated[float, Field(gt=0, allow_inf_nan=False)]
AmountOrOff = Annotated[float, Field(ge=0, allow_inf_nan=False)]
Count = Annotated[int, Field(ge=1)]
Names = Annotated[tuple[str, ...], NoDecode, BeforeValidator(_split_names)]
Port = Annotated[int, Field(ge=0, le=65535)]
Token = Annotated[SecretStr, AfterValidator(_hard_to_guess)]
Services = Annotated[tuple[SecretStr, ...], NoDecode, BeforeValidator(_services), AfterValidator(_reachable)]
Events = Annotated[tuple[str, ...], NoDecode, BeforeValidator(_events), AfterValidator(_known_events)]
Memory = Annotated[int, Field(ge=0), AfterValidator(_enough_memory)]


class Settings(BaseSettings):
    """Every variable that Penstock reads, by its name in lower case; .env.example says what each is for."""

    model_config = SettingsConfigDict(frozen=True, extra="ignore", env_ignore_empty=True)

    penstock_home: Folder = Field(default_factory=default_home)
    database_url: DatabaseUrl | None = Field(default=None, repr=False)

    penstock_embedder: Literal["local", "ollama"] = "local"
    ollama_host: Address = "http://127.0.0.1:11434"
    ollama_embedding_model: str = "nomic-embed-text"
    ollama_batch_size: Count = 32
    ollama_concurrency: Count = 2
    ollama_timeout_seconds: Amount = 120
    ollama_keep_alive: str = "10m"

    penstock_allowed_roots: Roots = ()
    penstock_allowed_urls: Urls = ()
    max_repo_size_gb: Amount = 10
    max_file_size_mb: Amount = 1
    penstock_min_free_disk_gb: AmountOrOff = 1

    max_concurrent_indexing_jobs: Count = 3
    indexing_job_timeout_seconds: AmountOrOff = 0
    blocked_timeout_seconds: AmountOrOff = 0
    job_status_retention_days: AmountOrOff = 7
    job_window: Count = 16
    penstock_batch_timeout_seconds: Amount = 30
    penstock_worker_memory_mb: Memory = 2_048
    penstock_idle_seconds: AmountOrOff = 600

    penstock_serve_host: str = "127.0.0.1"
    penstock_serve_port: Port = 8737
    penstock_serve_names: Names = ()
    penstock_serve_token: Token | None = None

    penstock_notify_urls: Services = ()
    penstock_notify_events: Events = tuple(event for event in NOTIFIABLE if event != "submitted")
    penstock_notify_interval_seconds: AmountOrOff = 60
    penstock_notify_min_seconds: AmountOrOff = 10

    penstock_log_level: LogLevel = "INFO"
    penstock_log_format: Literal["auto", "json", "console"] = "auto"

    @classmethod
    def load(cls) -> Self:
        """Read the settings. Raises ValidationError with a line for each bad value: which one, and what is allowed."""
        try:
            return cls()
        except pydantic.ValidationError as error:
            lines = "\n".join(map(_line, error.errors()))
        raise ValidationError(lines)  # without its cause, which would print the database's password

    @classmethod
    def settings_customise_sources(
        cls,
        settings_cls: type[BaseSettings],
        init_settings: PydanticBaseSettingsSource,
        env_settings: PydanticBaseSettingsSource,
        dotenv_settings: PydanticBaseSettingsSource,
        file_secret_settings: PydanticBaseSettingsSource,
    ) -> tuple[PydanticBaseSettingsSource, ...]:
        """Read the environment first, then `.env` in PENSTOCK_HOME: never the one of the folder we are called in."""
        del dotenv_settings, file_secret_settings
        home = _folder(Path(os.environ.get("PENSTOCK_HOME") or default_home()))
        return init_settings, env_settings, DotEnvSettingsSource(settings_cls, env_file=home / ".env")

    def limits(self) -> Limits:
        """Return the bounds that the stages keep."""
        return Limits(
            max_file_bytes=round(self.max_file_size_mb * MEGABYTE),
            max_repository_bytes=round(self.max_repo_size_gb * GIGABYTE),
            max_running_jobs=self.max_concurrent_indexing_jobs,
            job_window=self.job_window,
            job_seconds=self.indexing_job_timeout_seconds,
            blocked_seconds=self.blocked_timeout_seconds,
        )

    def notify_rules(self) -> NotifyRules:
        """Return what notifications are sent, and how often."""
        return NotifyRules(
            events=frozenset(self.penstock_notify_events),
            interval=self.penstock_notify_interval_seconds,
            least_seconds=self.penstock_notify_min_seconds,
        )


def _line(fault: ErrorDetails) -> str:
    variable = str(fault["loc"][0]).upper()
    shown = "" if variable in SECRETS else f"={fault['input']}"
    return f"{variable}{shown}: {fault['msg'].removeprefix('Value error, ')}"
