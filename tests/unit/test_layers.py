"""Imports point down only: the contracts in pyproject.toml, and a proof that they bite."""

import shutil
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]


def lint(folder: Path) -> subprocess.CompletedProcess[str]:
    """Check the package below ``folder / "src"`` against this project's contracts."""
    program = (
        f"import sys; sys.path.insert(0, {str(folder / 'src')!r})\n"
        "from importlinter.cli import lint_imports\n"
        f"sys.exit(lint_imports({str(ROOT / 'pyproject.toml')!r}, no_cache=True))"
    )
    return subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, check=False, cwd=folder
    )


def test_imports_point_down_only() -> None:
    done = lint(ROOT)
    assert done.returncode == 0, done.stdout


@pytest.mark.parametrize(
    ("module", "statement"),
    [
        ("market/upward.py", "import bookrunner.services.metrics"),
        ("venues/sideways.py", "import bookrunner.storage.journal"),
        ("venues/binance/sideways.py", "import bookrunner.venues.bybit.protocol"),
        ("a_new_layer/__init__.py", ""),
    ],
)
def test_a_forbidden_import_is_found(tmp_path: Path, module: str, statement: str) -> None:
    package = tmp_path / "src" / "bookrunner"
    shutil.copytree(
        ROOT / "src" / "bookrunner", package, ignore=shutil.ignore_patterns("__pycache__", "sample")
    )
    planted = package / module
    planted.parent.mkdir(exist_ok=True)
    planted.write_text(f'"""Planted."""\n\n{statement}\n')
    done = lint(tmp_path)
    assert done.returncode == 1, done.stdout
    assert "BROKEN" in done.stdout or "a_new_layer" in done.stdout
