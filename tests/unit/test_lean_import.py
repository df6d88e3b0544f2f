import subprocess
import sys

import pytest

PROGRAM = """
import sys
from bookrunner.core.lean_import import import_without
{statements}
"""


def run(statements: str) -> str:
    program = PROGRAM.format(statements=statements)
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    return done.stdout.strip()


@pytest.mark.parametrize(("name", "extras"), [("structlog", ("rich",)), ("httpx", ("click", "rich"))])
def test_a_library_works_without_its_extras_which_can_be_imported_afterwards(
    name: str, extras: tuple[str, ...]
) -> None:
    shown = run(
        f"module = import_without({name!r}, *{extras!r})\n"
        f"print(module.__name__, [extra for extra in {extras!r} if extra in sys.modules])\n"
        + "".join(f"import {extra}\n" for extra in extras)
    )
    assert shown == f"{name} []"


def test_an_extra_that_is_there_stays() -> None:
    assert (
        run("import rich\nimport_without('structlog', 'rich')\nprint(sys.modules['rich'] is rich)") == "True"
    )


def test_an_unknown_library_raises_and_hides_nothing_for_good() -> None:
    shown = run(
        "try: import_without('no_such_library', 'rich')\n"
        "except ModuleNotFoundError as error: print(error.name)\n"
        "import rich"
    )
    assert shown == "no_such_library"
