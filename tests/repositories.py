"""Makes repositories for tests and benchmarks: deterministic ones of any size, and the odd things found in real ones.

`python -m tests.repositories DEST --files 15000 --seed 1` writes one; a larger one of the same seed only adds files.
"""

from __future__ import annotations

import argparse
import os
import subprocess
import tempfile
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from random import Random
from typing import Final, TypeAlias

Contents: TypeAlias = Mapping[str, str | bytes]

NOBODY: Final = 65_534
HARDENED: Final = (
    *("-c", "user.name=Tester", "-c", "user.email=tester@example.org", "-c", "core.hooksPath=/dev/null"),
    *("-c", "core.fsmonitor=false", "-c", "commit.gpgSign=false", "-c", "init.defaultBranch=main", "-c", "gc.auto=0"),
    *("-c", "protocol.file.allow=always", "-c", "core.autocrlf=false", "-c", "safe.directory=*"),
)
NOUNS: Final = (
    "account address archive asset batch bucket buffer cache catalog channel claim client cluster contract cursor "
    "customer delivery device document domain draft event export feature filter folder gateway graph group header "
    "history image import index invoice item journal key label ledger lease letter limit link lock member message "
    "metric model module node note offer order packet page parcel partner payment peer plan policy pool port price "
    "profile project queue quota range rate record region report request resource result role route rule sample "
    "schedule schema secret segment sensor series session setting shard signal slot snapshot source stage status "
    "stream task template tenant ticket timer token topic trace transfer user vector vendor version view volume window"
).split()
VERBS: Final = (
    "accept add apply approve assign attach build cancel check claim clean close collect compare compute copy count "
    "create decode delete detach discard drain encode expand expire export fetch filter find flush format gather grant "
    "group import insert join load lock log map mark measure merge move notify open parse pause persist plan prepare "
    "print publish pull purge push read rebuild refresh reject release rename render repair replace report reset "
    "resolve restore resume retry revoke rotate route sample save scale schedule select send settle share sign sort "
    "split start stop store submit sum switch sync track transform trim update upload validate verify wait write"
).split()


def python_module(random: Random) -> str:
    """Return a Python module of one class and a few functions."""
    noun, other, verb = random.choice(NOUNS), random.choice(NOUNS), random.choice(VERBS)
    functions = "\n\n".join(_python_function(random) for _ in range(random.randint(2, 6)))
    methods = "\n".join(_python_method(random, noun) for _ in range(random.randint(2, 5)))
    return f'''"""{verb.title()}s the {noun}s of a {other}."""

from __future__ import annotations

import logging
from dataclasses import dataclass

log = logging.getLogger(__name__)
{noun.upper()}_LIMIT = {random.randint(2, 5000)}


@dataclass
class {noun.title()}{other.title()}:
    """A {noun} as the {other} keeps it."""

    {noun}_id: int
    name: str = "{random.choice(NOUNS)}-{random.randint(1, 999)}"

{methods}

{functions}
'''


def _python_method(random: Random, noun: str) -> str:
    verb, other, number = random.choice(VERBS), random.choice(NOUNS), random.randint(1, 99)
    return f'''    def {verb}_{other}(self, {other}s: list[int]) -> int:
        """{verb.title()} every {other} that belongs to this {noun}."""
        total = {number}
        for {other} in {other}s:
            if {other} % {number} == 0:
                continue
            total += {other} * self.{noun}_id
        log.debug("{verb} {other}: %d", total)
        return total
'''


def _python_function(random: Random) -> str:
    verb, noun, other = random.choice(VERBS), random.choice(NOUNS), random.choice(NOUNS)
    return f'''
def {verb}_{noun}_by_{other}({noun}s: dict[str, int], {other}: str, limit: int = {random.randint(1, 400)}) -> list[str]:
    """Return the {noun}s that match the {other}, at most `limit`, by their {random.choice(NOUNS)}."""
    chosen = sorted({noun}s, key={noun}s.__getitem__)
    if not chosen:
        raise LookupError(f"no {noun} to {verb} for {{{other}}}")
    return [name for name in chosen if name.startswith({other})][:limit]'''


def javascript_module(random: Random) -> str:
    """Return a JavaScript module."""
    functions = "\n".join(_javascript_function(random) for _ in range(random.randint(3, 8)))
    noun = random.choice(NOUNS)
    return f"""import {{ {noun}Store }} from "./{noun}_store.js";

const RETRIES = {random.randint(1, 9)};

{functions}
export default {{ {noun}Store, RETRIES }};
"""


def _javascript_function(random: Random) -> str:
    verb, noun, other = random.choice(VERBS), random.choice(NOUNS), random.choice(NOUNS)
    return f"""/** {verb.title()} the {noun} of a {other}, and give up after {random.randint(1, 60)} seconds. */
export async function {verb}{noun.title()}({other}, options = {{}}) {{
  const {noun}s = await {other}.list("{random.choice(NOUNS)}", options);
  for (const {noun} of {noun}s) {{
    if ({noun}.status === "{random.choice(NOUNS)}") {{
      await {noun}.{random.choice(VERBS)}({random.randint(1, 999)});
    }}
  }}
  return {noun}s.filter((each) => each.{random.choice(NOUNS)} > {random.randint(1, 99)});
}}
"""


def go_file(random: Random) -> str:
    """Return a Go source file."""
    package = random.choice(NOUNS)
    functions = "\n".join(_go_function(random) for _ in range(random.randint(3, 8)))
    return f"""// Package {package} {random.choice(VERBS)}s {random.choice(NOUNS)}s.
package {package}

import "fmt"

{functions}"""


def _go_function(random: Random) -> str:
    verb, noun, other = random.choice(VERBS).title(), random.choice(NOUNS), random.choice(NOUNS).title()
    return f"""// {verb}{other} {random.choice(VERBS)}s the {noun} until its {random.choice(NOUNS)} is known.
func {verb}{other}({noun} map[string]int, limit int) (int, error) {{
	total := {random.randint(0, 99)}
	for name, value := range {noun} {{
		if value > limit {{
			return 0, fmt.Errorf("{noun} %s is above {random.randint(1, 999)}", name)
		}}
		total += value
	}}
	return total, nil
}}
"""


def markdown_page(random: Random) -> str:
    """Return a page of documentation."""
    sections = "\n".join(_markdown_section(random) for _ in range(random.randint(2, 6)))
    return f"# The {random.choice(NOUNS)} {random.choice(NOUNS)}\n\n{sections}"


def _markdown_section(random: Random) -> str:
    sentences = " ".join(
        f"To {random.choice(VERBS)} a {random.choice(NOUNS)}, {random.choice(VERBS)} its {random.choice(NOUNS)} first."
        for _ in range(random.randint(2, 8))
    )
    return f"## How to {random.choice(VERBS)} the {random.choice(NOUNS)}\n\n{sentences}\n"


KINDS: Final[tuple[tuple[str, Callable[[Random], str]], ...]] = (
    *((".py", python_module),) * 5,
    *((".js", javascript_module),) * 3,
    *((".go", go_file),) * 2,
    (".md", markdown_page),
)


def generate(root: Path, files: int, *, seed: int = 1) -> None:
    """Write `files` source files below `root`, about 2 kB each and forty a folder; file n depends on the seed and n."""
    made: set[Path] = set()
    for number in range(files):
        path, text = source_file(number, seed)
        file = root / path
        if file.parent not in made:
            file.parent.mkdir(parents=True, exist_ok=True)
            made.add(file.parent)
        file.write_text(text)


def source_file(number: int, seed: int = 1) -> tuple[str, str]:
    """Return the path and the text of file `number` of a generated repository."""
    folder = Random(f"{seed}/{number // 40}")  # noqa: S311 - no secret
    random = Random(f"{seed}:{number}")  # noqa: S311 - no secret
    suffix, template = random.choice(KINDS)
    package = "/".join(folder.choice(NOUNS) for _ in range(folder.randint(1, 3)))
    name = f"{random.choice(VERBS)}_{random.choice(NOUNS)}_{number}{suffix}"
    return f"src/{package}_{number // 40}/{name}", template(random)


def write(root: Path, contents: Contents) -> Path:
    """Write files, given by their paths, and return `root`."""
    for path, content in contents.items():
        file = root / path
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_bytes(content.encode() if isinstance(content, str) else content)
    return root


def git(folder: Path, *arguments: str) -> bytes:
    """Run git in `folder`, untouched by the settings of the user and of other repositories, and return its output."""
    environment = {name: value for name, value in os.environ.items() if not name.startswith("GIT_")}
    environment |= {"GIT_CONFIG_GLOBAL": os.devnull, "GIT_CONFIG_SYSTEM": os.devnull, "GIT_TERMINAL_PROMPT": "0"}
    command = ["git", *HARDENED, *arguments]
    return subprocess.run(command, cwd=folder, env=environment, capture_output=True, check=True).stdout


def commit(root: Path, message: str = "Change") -> None:
    """Commit everything that is not ignored."""
    git(root, "add", "--all")
    git(root, "commit", "--quiet", "--allow-empty", "--message", message)


def repository(root: Path, contents: Contents) -> Path:
    """Make a git repository with one commit of these files and return `root`."""
    root.mkdir(parents=True, exist_ok=True)
    git(root, "init", "--quiet")
    write(root, contents)
    commit(root)
    return root


def listed_by_git(root: Path) -> set[str]:
    """Return the paths that git tracks or would track, as `list_files` has to account for them."""
    output = git(root, "ls-files", "-z", "--cached", "--others", "--exclude-standard")
    return {path.decode(errors="backslashreplace") for path in output.split(b"\0")[:-1]}


def add_symlink_loop(root: Path) -> None:
    """Make two folders whose links lead into each other, and a link to itself."""
    for here, there in (("left", "right"), ("right", "left")):
        (root / here).mkdir()
        (root / here / "loop").symlink_to(root / there)
    (root / "self").symlink_to("self")


def add_oddities(root: Path) -> dict[str, str]:
    """Add a file of each kind that is passed over, by the scan or (if binary) the reader; return path and reason."""
    contents: dict[str, str | bytes] = {
        "nul.bin": b"MZ\0\1\2\3",
        "noise.dat": bytes(range(1, 256)) * 8,
        "big.txt": "x" * 2_000_000,
        "none.txt": "",
        "package-lock.json": "{}",
        "app.min.js": "f()",
        "key.pem": "secret",
    }
    write(root, contents)
    os.mkfifo(root / "pipe")
    (root / "link.py").symlink_to("nul.bin")
    Path(os.fsdecode(os.fsencode(root) + b"/caf\xe9.py")).write_text("x = 1\n")
    return {
        "nul.bin": "binary",
        "noise.dat": "binary",
        "big.txt": "larger than 1.0 MB (2.0 MB)",
        "none.txt": "empty",
        "package-lock.json": "lock file",
        "app.min.js": "minified",
        "key.pem": "may hold a secret",
        "pipe": "not a regular file (named pipe)",
        "link.py": "symbolic link, not followed",
        "caf\\xe9.py": "file name is not UTF-8",
    }


@contextmanager
def unprivileged() -> Iterator[Path]:
    """Give up root's rights, to which no file is closed, and yield an empty folder of the ordinary user."""
    user = os.geteuid()
    with tempfile.TemporaryDirectory() as folder:
        home = Path(folder) / "home"
        home.mkdir()
        if user == 0:
            Path(folder).chmod(0o755)
            os.chown(home, NOBODY, NOBODY)
            os.seteuid(NOBODY)
        try:
            yield home
        finally:
            os.seteuid(user)


def main() -> None:
    """Write a repository as the command line says."""
    parser = argparse.ArgumentParser(description="Write a repository of generated source files.")
    parser.add_argument("dest", type=Path, metavar="DEST", help="the folder to write, made when it is missing")
    parser.add_argument("--files", type=int, default=15_000)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--git", action="store_true", help="make it a git repository with one commit")
    options = parser.parse_args()
    generate(options.dest, options.files, seed=options.seed)
    if options.git:
        repository(options.dest, {})


if __name__ == "__main__":
    main()
