"""Where the files of a repository come from: a folder, the objects of a git repository on disk, or a git URL.

A source's name is what the index calls the repository: `/srv/app`, `/srv/app.git`, `/srv/app#v1.0`,
`https://example.org/app.git#main`. Parsing a name gives its source back.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, replace
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Final
from urllib.parse import SplitResult, unquote, urlsplit

from pipeline import paths
from pipeline.errors import InvalidPath

if TYPE_CHECKING:
    from collections.abc import Sequence

LOCAL_SCHEME: Final = "file://"
PROTOCOLS: Final = {"https": "https:ssh", "http": "http:https:ssh", "ssh": "ssh", "git": "git:ssh"}
"""What git may speak for a URL of a scheme; ssh is always there because people rewrite URLs to it (`insteadOf`)."""

_SCP: Final = re.compile(r"(?P<user>[\w.-]+)@(?P<host>\w[\w.-]*):(?P<path>[^\s\\#]+)")
_ODD: Final = re.compile(r"[\x00-\x20\x7f\\]")
_REF: Final = re.compile(r"(?!-|.*(?:\.\.|@\{|//|/$|\.$|\.lock$))[^\x00-\x20\x7f~^:?*\[\\]+")


class Kind(StrEnum):
    """Of what kind a source is."""

    FOLDER = "folder"
    """The files of a folder as they are now."""
    LOCAL = "local"
    """A commit of a git repository on disk, read from its objects."""
    REMOTE = "remote"
    """A commit of a git repository elsewhere, read from this host's mirror."""


@dataclass(frozen=True, slots=True)
class Source:
    """A repository's source: `place` is the folder or URL, `ref` the branch, tag or commit named ("" if none)."""

    kind: Kind
    place: str
    ref: str = ""

    @property
    def name(self) -> str:
        """What the index calls the repository."""
        return f"{self.place}#{self.ref}" if self.ref else self.place

    @property
    def short_name(self) -> str:
        """What people would call it."""
        last = self.place.rpartition("/")[2] or self.place
        if self.kind is not Kind.FOLDER:
            last = last.rpartition(":")[2].removesuffix(".git")
        return f"{last}#{self.ref}" if self.ref else last


def is_url(text: str) -> bool:
    """Return whether a text is meant as a URL, or as `user@host:path`, and not as a path."""
    return "://" in text or bool(_SCP.match(text))


def accept(
    text: str,
    *,
    allowed_roots: Sequence[Path] = (),
    allowed_urls: Sequence[str] = (),
    disk_path: Path | None = None,
    min_free_bytes: int = 0,
) -> Source:
    """Return the source that a submission names, with its real path or its URL in one spelling (R06).

    When roots or URLs are allowed by name, a URL must begin with one of `allowed_urls`. Raises InvalidPath.
    """
    source = parse(text)
    if source.kind is Kind.REMOTE:
        _check_allowed(source.place, bool(allowed_roots or allowed_urls), allowed_urls)
        if disk_path:
            paths.check_disk(disk_path, min_free_bytes)
        return source
    folder = paths.validate(
        source.place, allowed_roots=allowed_roots, disk_path=disk_path, min_free_bytes=min_free_bytes
    )
    if source.kind is Kind.LOCAL and allowed_roots and not _keeps_its_own_objects(folder):
        raise InvalidPath(
            f"{folder} takes its objects from elsewhere, which may be outside the allowed roots: clone it"
        )
    return replace(source, place=str(folder))


def parse(text: str) -> Source:
    """Return the source of a name. Raises InvalidPath for a URL or a ref that git must not see."""
    if text.startswith(LOCAL_SCHEME):
        place, _, ref = text.removeprefix(LOCAL_SCHEME).partition("#")
        source = _on_disk(unquote(place))
        bare = source.kind is Kind.LOCAL
        return replace(source, kind=Kind.LOCAL, ref=_checked_ref(ref) or ("" if bare else "HEAD"))
    if not is_url(text):
        return _on_disk(text)
    paths.check_encoding(text)
    url, _, ref = text.partition("#")
    return Source(Kind.REMOTE, _checked_url(url), _checked_ref(ref))


def _on_disk(path: str) -> Source:
    """Return the source of a path: what lies there decides, and only where nothing does, a `#` divides off a ref."""
    if not path.startswith("/") or "\0" in path:
        return Source(Kind.FOLDER, path)
    if Path(path).is_dir():
        return Source(Kind.LOCAL if _is_bare(Path(path)) else Kind.FOLDER, path)
    for found in re.finditer("#", path):
        place = Path(path[: found.start()])
        if _is_bare(place) or (place / ".git").exists():
            return Source(Kind.LOCAL, str(place), _checked_ref(path[found.end() :]))
    return Source(Kind.FOLDER, path)


def _is_bare(folder: Path) -> bool:
    inside = (folder / "objects").is_dir() and (folder / "refs").is_dir() and (folder / "HEAD").is_file()
    return inside and folder.name != ".git"


def _keeps_its_own_objects(folder: Path) -> bool:
    """Return whether all that git reads of a repository lies in it: no link, no alternate, no other work tree's."""
    inside = folder if _is_bare(folder) else folder / ".git"
    objects = inside / "objects"
    if inside.is_symlink() or any((inside / name).exists() for name in ("commondir", "objects/info/alternates")):
        return False
    held = [inside / "refs", objects, *objects.glob("*"), *objects.glob("pack/*")]
    return objects.is_dir() and not any(path.is_symlink() for path in held)


def _checked_ref(ref: str) -> str:
    if ref and not _REF.fullmatch(ref):
        raise InvalidPath(f"{ref!r} is no name of a branch, a tag or a commit")
    return ref


def _checked_url(url: str) -> str:
    if _ODD.search(url):
        raise InvalidPath(f"the URL {url!a} holds a space, a backslash or a control character: encode it as %20")
    if "://" not in url:
        path = _SCP.fullmatch(url)
        if path is None or paths.climbs(path["path"]):
            raise InvalidPath(f"{url} holds a '..' component (path traversal): name the repository itself")
        return url
    try:
        parts = urlsplit(url)
        _ = parts.port
    except ValueError as error:
        raise InvalidPath(f"this is no URL of a git repository: {error}") from None
    _check_parts(parts)
    user, at, host = parts.netloc.rpartition("@")
    return parts._replace(netloc=f"{user}{at}{host.lower()}", path=parts.path.rstrip("/")).geturl()


def _check_parts(parts: SplitResult) -> None:
    shown = f"{parts.scheme}://{parts.hostname or ''}{parts.path}"
    if parts.scheme not in PROTOCOLS:
        raise InvalidPath(f"{shown} has an unknown scheme: https, http, ssh, git and file are known")
    if not parts.hostname or parts.hostname.startswith("-") or not parts.path.strip("/"):
        raise InvalidPath(f"{shown} names no host or no repository: a URL like https://example.org/team/app.git is due")
    if parts.password is not None or (parts.username is not None and parts.scheme != "ssh"):
        raise InvalidPath(
            f"the URL of {shown} holds credentials, which would be stored: leave them out, and give them to the workers"
            " by git's credential helper or an ssh agent"
        )
    if (parts.username or "").startswith("-"):
        raise InvalidPath(f"{shown} has a user name that begins with a dash")
    if parts.query:
        raise InvalidPath(f"the URL of {shown} holds a query (?…), which may be a secret: leave it out")
    if paths.climbs(parts.path):
        raise InvalidPath(f"{shown} holds a '..' component (path traversal): name the repository itself")


def _check_allowed(url: str, restricted: bool, allowed: Sequence[str]) -> None:  # noqa: FBT001 - one caller
    if restricted and not any(_is_below(url, prefix) for prefix in allowed):
        known = ", ".join(allowed) or "none is"
        raise InvalidPath(f"{url} is not among the allowed URLs ({known}): see PENSTOCK_ALLOWED_URLS")


def _is_below(url: str, prefix: str) -> bool:
    """Return whether a URL is a prefix or goes on after it at a border: `…/team` does not allow `…/team-b`."""
    start = prefix if prefix.endswith(("/", ":")) else prefix + "/"
    return url.startswith(start) or url in {prefix, f"{prefix}.git"}
