"""What is never worth indexing, whatever the ignore rules say, judged by names below the root only."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from collections.abc import Iterable

VCS_FOLDERS: Final = frozenset({".git", ".hg", ".svn", ".bzr", ".jj", "_darcs", "CVS"})
DEPENDENCY_FOLDERS: Final = frozenset(
    {"node_modules", "bower_components", "jspm_packages", ".venv", "site-packages", "__pypackages__", ".bundle"}
)
CACHE_FOLDERS: Final = frozenset(
    {
        *("__pycache__", ".mypy_cache", ".pytest_cache", ".ruff_cache", ".hypothesis", ".tox", ".nox", ".eggs"),
        *(".ipynb_checkpoints", ".gradle", ".terraform", ".next", ".nuxt", ".svelte-kit", ".parcel-cache", ".turbo"),
        *(".dart_tool", ".nyc_output", ".import_linter_cache", ".ccls-cache", ".clangd"),
    }
)
ENVIRONMENT_MARKERS: Final = ("pyvenv.cfg", "conda-meta")
CACHE_MARKER: Final = "CACHEDIR.TAG"
BUILD_FOLDERS: Final = {
    "build": (
        *("package.json", "pyproject.toml", "setup.py", "setup.cfg", "build.gradle", "build.gradle.kts"),
        *("CMakeLists.txt", "meson.build", "pubspec.yaml"),
    ),
    "dist": ("package.json", "pyproject.toml", "setup.py", "setup.cfg"),
    "out": ("package.json", "build.gradle", "build.gradle.kts"),
    "target": ("Cargo.toml", "pom.xml", "build.sbt"),
    "vendor": ("go.mod", "composer.json", "Gemfile"),
    "Pods": ("Podfile",),
}
"""Names that are ordinary words, so that they need one of these files beside them to mean build output."""

LOCK_FILES: Final = frozenset(
    {
        *("package-lock.json", "npm-shrinkwrap.json", "yarn.lock", "pnpm-lock.yaml", "bun.lock", "bun.lockb"),
        *("deno.lock", "poetry.lock", "uv.lock", "pdm.lock", "pixi.lock", "pipfile.lock", "cargo.lock", "go.sum"),
        *("go.work.sum", "composer.lock", "gemfile.lock", "podfile.lock", "package.resolved", "pubspec.lock"),
        *("mix.lock", "rebar.lock", "flake.lock", "packages.lock.json", "gradle.lockfile", ".terraform.lock.hcl"),
        *("conan.lock", "cartfile.resolved", "stack.yaml.lock", "cabal.project.freeze"),
    }
)
SECRETS: Final = frozenset(
    {
        *(".env", ".envrc", ".netrc", "_netrc", ".pgpass", ".my.cnf", ".mylogin.cnf", ".htpasswd", ".git-credentials"),
        *(".npmrc", ".yarnrc.yml", ".pypirc", ".gem/credentials", ".cargo/credentials", ".cargo/credentials.toml"),
        *(".aws/credentials", ".azure/accesstokens.json", ".boto", ".s3cfg", ".dockercfg", ".docker/config.json"),
        *("kubeconfig", ".kube/config", ".vault-token", ".terraformrc", "terraform.rc", "client_secret.json"),
        *("master.key", "service-account.json", "service_account.json", "application_default_credentials.json"),
        *("id_rsa", "id_dsa", "id_ecdsa", "id_ecdsa_sk", "id_ed25519", "id_ed25519_sk", "wp-config.php"),
    }
)
"""Files that hold secrets by their purpose, by name or by folder and name, in lower case."""
SECRET_ENDINGS: Final = (
    *(".pem", ".key", ".p8", ".p12", ".pfx", ".ppk", ".jks", ".keystore", ".kdbx", ".ovpn"),
    *(".tfstate", ".tfstate.backup", ".tfvars", ".kubeconfig", ".mobileprovision"),
)
TEMPLATES: Final = (".example", ".sample", ".template", ".dist", ".defaults")
ENDINGS: Final = {
    "minified": (".min.js", ".min.mjs", ".min.cjs", ".min.css", "-min.js", ".bundle.js"),
    "source map": (".js.map", ".mjs.map", ".cjs.map", ".ts.map", ".css.map"),
    "generated code": (
        *("_pb2.py", "_pb2.pyi", "_pb2_grpc.py", ".pb.go", ".pb.gw.go", ".pb.cc", ".pb.h", ".pb.swift", ".pb.dart"),
        *(".pbenum.dart", ".pbjson.dart", ".pbserver.dart", "_pb.js", "_pb.d.ts", "_grpc_pb.js"),
        *(".g.dart", ".freezed.dart", ".g.cs", ".designer.cs"),
    ),
}
_ANY_ENDING: Final = tuple(ending for endings in ENDINGS.values() for ending in endings)


def file_reason(name: str) -> str:
    """Say why a file of this name is never indexed; "" when nothing is against it."""
    name = name.lower()
    if name in LOCK_FILES:
        return "lock file"
    if name.startswith("zz_generated.") and name.endswith(".go"):
        return "generated code"
    if not name.endswith(_ANY_ENDING):
        return ""
    return next(reason for reason, endings in ENDINGS.items() if name.endswith(endings))


def is_secret(path: str) -> bool:
    """Say whether a file of this path is likely to hold passwords, tokens or private keys."""
    folder, _, name = path.lower().rpartition("/")
    if name in SECRETS or f"{folder.rpartition('/')[2]}/{name}" in SECRETS or name.endswith(SECRET_ENDINGS):
        return True
    return name.startswith(".env.") and not name.endswith(TEMPLATES)


def folder_reason(name: str) -> str:
    """Say why a folder of this name is never indexed, even when its files are tracked; "" when it may be."""
    if name in VCS_FOLDERS:
        return f"in a version control folder ({name})"
    if name in DEPENDENCY_FOLDERS:
        return f"in a dependency folder ({name})"
    return f"in a cache folder ({name})" if name in CACHE_FOLDERS else ""


def untracked_folder_reason(folder: bytes) -> str:
    """Say why a folder in which git tracks nothing looks like build output or an environment; "" when it does not."""
    above, _, name = os.fsdecode(folder).rpartition("/")
    if _any_exists(f"{above}/{name}", ENVIRONMENT_MARKERS):
        return f"in a virtual environment ({name})"
    if _any_exists(f"{above}/{name}", (CACHE_MARKER,)):
        return f"in a cache folder ({name})"
    return f"in a build folder ({name})" if _any_exists(above, BUILD_FOLDERS.get(name, ())) else ""


def _any_exists(folder: str, names: Iterable[str]) -> bool:
    return any(os.path.lexists(f"{folder}/{name}") for name in names)
