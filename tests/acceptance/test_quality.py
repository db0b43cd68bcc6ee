"""The quality bench as it is run: from an archive to numbers, in a home that is made, kept and stopped."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import zipfile
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from pathlib import Path

TABLE: Final = "registry,name,version,licence,set,small,language,folders\npypi,shop,1.0,MIT,develop,yes,python,\n"
TILL: Final = '''
class Till:
    def give_change(self, paid):
        """Count out the coins that are owed to a customer."""
        return split(paid, self.coins)
'''


def test_the_bench_goes_from_an_archive_to_numbers(tmp_path: Path) -> None:
    """A tree is made, indexed by the product, and asked; nothing runs afterwards."""
    (tmp_path / "table.csv").write_text(TABLE)
    archive = tmp_path / "archives" / "pypi" / "shop" / "shop-1.0.whl"
    archive.parent.mkdir(parents=True)
    with zipfile.ZipFile(archive, "w") as bundle:
        bundle.writestr("shop/till.py", TILL)
    command = [sys.executable, "-m", "ops.bench.quality", str(tmp_path), "--sources", str(tmp_path / "table.csv")]
    kept = {name: value for name, value in os.environ.items() if not name.startswith("PENSTOCK")}
    asked = [*command, "--task", "docstring", "--system", "hybrid", "--system", "bm25", "--json"]
    done = subprocess.run(asked, env=kept, capture_output=True, text=True, check=False, timeout=100)
    assert not done.returncode, done.stderr
    found = json.loads(done.stdout)
    assert [(row["system"], row["mrr"]["value"]) for row in found["rows"] if row["scope"] == "all"] == [
        ("hybrid", 1.0),
        ("bm25", 1.0),
    ]
    assert [question["query"] for question in found["questions"]] == [
        "Count out the coins that are owed to a customer."
    ]
    assert "owed" not in (tmp_path / "trees" / "shop" / "bare" / "shop" / "till.py").read_text()
    assert not (tmp_path / "home" / "postgres" / "postmaster.pid").exists()
