"""The rules of the house that no linter knows, and a proof that each of them bites."""

import ast
import io
import re
import tokenize
import tomllib
from collections.abc import Callable, Iterator
from functools import cache
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
SOURCE = ROOT / "src" / "bookrunner"
CHECKED = ("src", "tests", "benchmarks")

FILE_LINES_MAX = 600
FUNCTION_LINES_MAX = 70
LONG_FUNCTIONS: dict[str, str] = {}
"""``path:function`` of a kernel that may be longer, and why splitting it would cost."""

BELOW_SERVICES = ("engine", "wire", "market", "kernels", "core")
"""Layers that know neither loop, socket nor environment."""
PURE_MODULES = ("protocol.py", "sequencing.py")
"""As pure as those layers, inside ``venues``."""
LOOP_AND_SOCKETS = {
    "aiohttp", "anyio", "asyncio", "fastapi", "http", "httpx", "picows", "requests", "select", "selectors",
    "signal", "socket", "socketserver", "ssl", "starlette", "subprocess", "threading", "urllib.request",
    "uvicorn", "uvloop", "websockets",
}  # fmt: skip
KERNEL_IMPORTS = {"__future__", "llvmlite", "math", "numba", "numpy"}
"""``math`` too: numba compiles it."""
KERNEL_TOOLING = {"collections", "hashlib", "os", "pathlib", "sys", "typing"}
"""For the modules around the kernels that compile, cache and warm them."""
KERNEL_TOOLING_MODULES = {"jit.py", "warmup.py", "intrinsics.py"}

CLOCK_CALLS = re.compile(
    r"\btime\.(?:time|monotonic|perf_counter|process_time|clock_gettime)(?:_ns)?\b"
    r"|\b(?:datetime|date)\.(?:now|utcnow|today)\b"
)
CLOCK_ROOMS = {"core/clock.py"}
MODULE_RANDOM = re.compile(r"\brandom\.[a-z_]+\(")
"""Only where the module is imported: a generator handed in may have the same name."""
RANDOM_CALLS = re.compile(
    r"\bnp\.random\b|\bnumpy\.random\b|\bfrom random import (?!(?:System)?Random\b)"
    r"|\buuid\.uuid[14]\b|\bsecrets\.\w|\bos\.urandom\b"
)
UNSEEDED = re.compile(r"\b(?:System)?Random\(\)")
"""Only the composition root and the commands may make a generator that nobody can replay."""
ENVIRONMENT = re.compile(r"\bos\.(?:environ|getenv|putenv)\b|\bfrom os import .*\benviron\b")
ENVIRONMENT_ROOMS = {"app/settings_sources.py"}
PRINT_ROOMS = ("app/cli.py", "app/commands/")
UNFINISHED = re.compile(r"\b(?:TODO|FIXME|XXX|HACK|TBD)\b")

Check = Callable[[str, str], Iterator[str]]
"""Given a path below ``src/bookrunner`` and its text, yields what is wrong."""


def raw_clocks(path: str, text: str) -> Iterator[str]:
    if path not in CLOCK_ROOMS:
        yield from _matches(CLOCK_CALLS, path, text)
        yield from _imports_of(path, text, {"time"})


def randomness(path: str, text: str) -> Iterator[str]:
    yield from _matches(RANDOM_CALLS, path, text)
    if re.search(r"^\s*import random\b", text, re.MULTILINE):
        yield from _matches(MODULE_RANDOM, path, text)
    if not path.startswith("app/"):
        yield from _matches(UNSEEDED, path, text)


def environment(path: str, text: str) -> Iterator[str]:
    if path not in ENVIRONMENT_ROOMS:
        yield from _matches(ENVIRONMENT, path, text)


def prints(path: str, text: str) -> Iterator[str]:
    if path.startswith(PRINT_ROOMS):
        return
    for node in ast.walk(ast.parse(text)):
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.func.id == "print":
            yield f"{path}:{node.lineno}: print"


def loop_and_sockets_below_services(path: str, text: str) -> Iterator[str]:
    layer, _, rest = path.partition("/")
    if layer in BELOW_SERVICES or (layer == "venues" and rest.endswith(PURE_MODULES)):
        yield from _imports_of(path, text, LOOP_AND_SOCKETS)


def kernels_import_only_numba(path: str, text: str) -> Iterator[str]:
    if not path.startswith("kernels/"):
        return
    allowed = KERNEL_IMPORTS | (KERNEL_TOOLING if Path(path).name in KERNEL_TOOLING_MODULES else set())
    for line, module in _imports(text):
        inside = module.startswith(("bookrunner.kernels", "bookrunner.core"))
        if not inside and module.split(".")[0] not in allowed:
            yield f"{path}:{line}: imports {module}"


def long_files(path: str, text: str) -> Iterator[str]:
    if (lines := text.count("\n")) > FILE_LINES_MAX:
        yield f"{path}: {lines} lines, over {FILE_LINES_MAX}"


def long_functions(path: str, text: str) -> Iterator[str]:
    for node in ast.walk(ast.parse(text)):
        if isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef)):
            lines = (node.end_lineno or node.lineno) - node.lineno + 1
            if lines > FUNCTION_LINES_MAX and f"{path}:{node.name}" not in LONG_FUNCTIONS:
                yield f"{path}:{node.lineno}: {node.name} has {lines} lines, over {FUNCTION_LINES_MAX}"


def unfinished_work(path: str, text: str) -> Iterator[str]:
    for number, line in enumerate(text.splitlines(), start=1):
        if match := UNFINISHED.search(line):
            yield f"{path}:{number}: {match[0]}"


def _matches(pattern: re.Pattern[str], path: str, text: str) -> Iterator[str]:
    for number, line in enumerate(_code(text), start=1):
        if match := pattern.search(line):
            yield f"{path}:{number}: {match[0]}"


@cache
def _code(text: str) -> list[str]:
    """Return the lines with strings and comments blanked out: a docstring may name what code may not use."""
    lines = text.splitlines()
    for token in tokenize.generate_tokens(io.StringIO(text).readline):
        if token.type in {tokenize.STRING, tokenize.COMMENT}:
            (first, start), (last, end) = token.start, token.end
            for number in range(first, last + 1):
                line = lines[number - 1]
                left = start if number == first else 0
                right = end if number == last else len(line)
                lines[number - 1] = line[:left] + " " * (right - left) + line[right:]
    return lines


def _imports(text: str) -> Iterator[tuple[int, str]]:
    for node in ast.walk(ast.parse(text)):
        if isinstance(node, ast.Import):
            yield from ((node.lineno, alias.name) for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and node.module:
            yield node.lineno, node.module


def _imports_of(path: str, text: str, refused: set[str]) -> Iterator[str]:
    for line, module in _imports(text):
        if not refused.isdisjoint({module, module.split(".")[0]}):
            yield f"{path}:{line}: imports {module}"


HOUSE_CHECKS: tuple[Check, ...] = (
    raw_clocks, randomness, environment, prints, loop_and_sockets_below_services, kernels_import_only_numba,
)  # fmt: skip
"""For ``src/bookrunner``."""
SIZE_CHECKS: tuple[Check, ...] = (long_files, long_functions, unfinished_work)
"""For every Python file."""


@pytest.mark.parametrize("check", HOUSE_CHECKS)
def test_the_house_is_tidy(check: Check) -> None:
    wrong = [
        complaint
        for file in sorted(SOURCE.rglob("*.py"))
        for complaint in check(file.relative_to(SOURCE).as_posix(), file.read_text())
    ]
    assert wrong == []


@pytest.mark.parametrize("check", SIZE_CHECKS)
def test_every_file_is_of_a_size_to_read_and_finished(check: Check) -> None:
    wrong = [
        complaint
        for folder in CHECKED
        for file in sorted((ROOT / folder).rglob("*.py"))
        if file != Path(__file__)
        for complaint in check(_short(file), file.read_text())
    ]
    assert wrong == []


def _short(file: Path) -> str:
    return file.relative_to(SOURCE if SOURCE in file.parents else ROOT).as_posix()


@pytest.mark.parametrize(
    ("check", "path", "snippet"),
    [
        (raw_clocks, "services/x.py", "import time\n"),
        (raw_clocks, "services/x.py", "now = datetime.now(UTC)\n"),
        (raw_clocks, "app/x.py", "t = time.perf_counter()\n"),
        (raw_clocks, "market/x.py", "from time import monotonic\n"),
        (randomness, "services/x.py", "import random\nx = random.random()\n"),
        (randomness, "services/x.py", "import random\nx = random.uniform(0, 1)\n"),
        (randomness, "venues/x.py", "x = np.random.default_rng()\n"),
        (randomness, "app/x.py", "name = uuid.uuid4()\n"),
        (randomness, "api/x.py", "token = secrets.token_hex()\n"),
        (randomness, "services/x.py", "generator = Random()\n"),
        (randomness, "fanout/x.py", "tokens = random.SystemRandom()\n"),
        (randomness, "services/x.py", "from random import randint\n"),
        (environment, "app/build.py", "home = os.environ['HOME']\n"),
        (environment, "storage/x.py", "home = os.getenv('HOME')\n"),
        (environment, "storage/x.py", "from os import environ\n"),
        (prints, "services/x.py", "def f():\n    print('x')\n"),
        (loop_and_sockets_below_services, "engine/ports/x.py", "import asyncio\n"),
        (loop_and_sockets_below_services, "wire/x.py", "def f():\n    import socket\n"),
        (
            loop_and_sockets_below_services,
            "venues/bybit/protocol.py",
            "from http.client import HTTPException\n",
        ),
        (loop_and_sockets_below_services, "venues/binance/sequencing.py", "import httpx\n"),
        (kernels_import_only_numba, "kernels/x.py", "import msgspec\n"),
        (kernels_import_only_numba, "kernels/x.py", "import os\n"),
        (kernels_import_only_numba, "kernels/x.py", "from bookrunner.market.book import OrderBook\n"),
        (long_files, "x.py", "\n" * (FILE_LINES_MAX + 1)),
        (long_functions, "x.py", "def f():\n" + "    pass\n" * FUNCTION_LINES_MAX),
        (long_functions, "x.py", "class C:\n  async def f(self):\n" + "    pass\n" * FUNCTION_LINES_MAX),
        (unfinished_work, "x.py", "# TODO: later\n"),
        (unfinished_work, "x.py", "x = 1  # FIXME\n"),
    ],
)
def test_each_check_bites(check: Check, path: str, snippet: str) -> None:
    assert list(check(path, snippet))


@pytest.mark.parametrize(
    ("check", "path", "snippet"),
    [
        (raw_clocks, "core/clock.py", "import time\nwall_ns = time.time_ns\n"),
        (raw_clocks, "services/x.py", "moment = datetime.fromtimestamp(0, UTC)\nclock.monotonic_ns()\n"),
        (randomness, "services/x.py", "def f(jitter: random.Random) -> float:\n    return jitter.random()\n"),
        (randomness, "app/build.py", "from random import Random\njitter = Random()\n"),
        (randomness, "fanout/x.py", "import random\n'Takes what random.random() gives.'\n"),
        (raw_clocks, "services/x.py", "x = 1  # not time.time()\n"),
        (environment, "app/settings_sources.py", "os.environ\n"),
        (prints, "app/commands/x.py", "print('x')\n"),
        (prints, "services/x.py", "console.print('x')\n"),
        (loop_and_sockets_below_services, "services/x.py", "import asyncio\n"),
        (loop_and_sockets_below_services, "wire/x.py", "from urllib.parse import parse_qs\n"),
        (loop_and_sockets_below_services, "venues/transport/rest.py", "import httpx\n"),
        (kernels_import_only_numba, "kernels/x.py", "from bookrunner.core.fixed import gcd\nimport numba\n"),
        (kernels_import_only_numba, "kernels/jit.py", "import hashlib\n"),
        (long_functions, "x.py", "def f():\n" + "    pass\n" * (FUNCTION_LINES_MAX - 1)),
        (unfinished_work, "x.py", "todo_list = []\n"),
    ],
)
def test_each_check_lets_the_permitted_pass(check: Check, path: str, snippet: str) -> None:
    assert list(check(path, snippet)) == []


def test_every_ignore_of_the_linter_has_its_reason() -> None:
    lines = (ROOT / "pyproject.toml").read_text().splitlines()
    bare = [line for line in lines if re.fullmatch(r'\s+"[A-Z]+\d*",\s*', line)]
    assert bare == []


def test_the_lock_pins_exact_versions_and_names_no_host() -> None:
    lines = (ROOT / "requirements.lock").read_text().splitlines()
    assert lines
    assert [line for line in lines if not re.fullmatch(r"[A-Za-z0-9._-]+==[A-Za-z0-9._+!-]+", line)] == []


def test_the_lock_holds_every_direct_dependency() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    wanted = {
        _normal(re.split(r"[<>=!; ]", requirement)[0])
        for requirement in [*project["dependencies"], *project["optional-dependencies"]["dev"]]
    }
    locked = {_normal(line.split("==")[0]) for line in (ROOT / "requirements.lock").read_text().splitlines()}
    assert wanted - locked == set()


def _normal(name: str) -> str:
    return re.sub(r"[-_.]+", "-", name).lower()
