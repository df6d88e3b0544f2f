"""What every catalogue target promises."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from bookrunner.core.errors import CatalogueError
from bookrunner.engine.ports.catalogue import CatalogueTarget
from bookrunner.storage.catalogue import LocalCatalogue, LocalSpool, ObjectCatalogue, catalogue_at

PATH = "venue=binance_usdm/symbol=BTC%2FUSDT/date=2024-08-08/depth-1-2-ab.parquet"
MAKERS: dict[str, Callable[[Path], CatalogueTarget]] = {
    "folder": LocalCatalogue,
    "url": lambda root: ObjectCatalogue(root.as_uri()),
    "spool": lambda root: LocalSpool(root, 10_000),
}


@pytest.fixture(params=MAKERS)
def target(request: pytest.FixtureRequest, tmp_path: Path) -> tuple[CatalogueTarget, Path]:
    root = tmp_path / "catalogue"
    root.mkdir()
    return MAKERS[request.param](root), root


def stored(root: Path) -> list[bytes]:
    return [file.read_bytes() for file in root.rglob("*") if file.is_file()]


def test_a_file_is_there_whole_and_alone(target: tuple[CatalogueTarget, Path]) -> None:
    subject, root = target
    subject.put(PATH, b"content" * 100)
    assert stored(root) == [b"content" * 100]


def test_the_same_path_is_replaced(target: tuple[CatalogueTarget, Path]) -> None:
    subject, root = target
    subject.put(PATH, b"first")
    subject.put(PATH, b"second")
    assert stored(root) == [b"second"]


def test_a_refusal_is_a_catalogue_error(target: tuple[CatalogueTarget, Path]) -> None:
    subject, root = target
    root.rmdir()
    root.write_text("a file stands where the folder should be")
    with pytest.raises(CatalogueError):
        subject.put(PATH, b"content")


def test_the_location_tells_which() -> None:
    assert isinstance(catalogue_at("var/catalogue"), LocalCatalogue)
    assert isinstance(catalogue_at("file:///tmp/x"), ObjectCatalogue)
    with pytest.raises(CatalogueError):
        catalogue_at("carrier-pigeon://coop")


def test_a_local_path_keeps_its_place(tmp_path: Path) -> None:
    LocalCatalogue(tmp_path).put(PATH, b"x")
    assert (tmp_path / PATH).read_bytes() == b"x"


def test_the_spool_gives_back_in_order_and_has_a_bound(tmp_path: Path) -> None:
    spool = LocalSpool(tmp_path / "spool", limit_bytes=100)
    assert spool.waiting() == []
    spool.put(PATH, b"a" * 60)
    with pytest.raises(CatalogueError) as caught:
        spool.put("venue=x/symbol=y/date=z/other.parquet", b"b" * 60)
    assert caught.value.fields["limit_bytes"] == 100
    spool.put("venue=x/symbol=y/date=z/other.parquet", b"b" * 40)
    assert sorted(spool.waiting()) == [PATH, "venue=x/symbol=y/date=z/other.parquet"]
    assert LocalSpool(tmp_path / "spool", 100).read(PATH) == b"a" * 60
    spool.remove(PATH)
    spool.remove(PATH)
    assert spool.waiting() == ["venue=x/symbol=y/date=z/other.parquet"]
    with pytest.raises(CatalogueError):
        spool.read(PATH)
