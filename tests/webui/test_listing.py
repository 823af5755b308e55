from __future__ import annotations

import threading
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING

import pytest

from netadapt_trt.errors import SpecError
from netadapt_trt.webui import listing
from netadapt_trt.webui.listing import Listings, list_items

if TYPE_CHECKING:
    from pathlib import Path

    from netadapt_trt.webui.workspace import Workspace


def names(listings: Listings) -> list[str]:
    return [item.name for item in listings.latest().items]


def put(root: Path, name: str) -> None:
    (root / name).parent.mkdir(parents=True, exist_ok=True)
    (root / name).write_text("{}")


class Hands:
    """A clock that the test turns; it goes on by ``slow`` seconds with every look at it."""

    def __init__(self) -> None:
        self.at, self.slow = 100.0, 0.0

    def now(self) -> float:
        self.at += self.slow
        return self.at


def test_listing_is_kept_for_a_few_seconds(tmp_path: Path) -> None:
    hands = Hands()
    listings = Listings(tmp_path, now=hands.now)
    assert names(listings) == []
    put(tmp_path, "a.lut.jsonl")
    hands.at += 2.9
    assert names(listings) == []
    hands.at += 0.2
    assert names(listings) == ["a.lut.jsonl"]
    put(tmp_path, "b.lut.jsonl")
    assert len(listings.latest(fresh=True).items) == 2
    put(tmp_path, "c.lut.jsonl")
    listings.forget()
    assert len(names(listings)) == 3


def test_listing_that_takes_long_is_kept_longer(tmp_path: Path) -> None:
    hands = Hands()
    hands.slow = 1.0  # from one look at the clock to the next: a walk takes a second
    listings = Listings(tmp_path, now=hands.now)
    names(listings)
    hands.slow = 0.0
    put(tmp_path, "a.lut.jsonl")
    hands.at += 9.9
    assert names(listings) == []
    hands.at += 0.2
    assert names(listings) == ["a.lut.jsonl"]


def test_listing_is_walked_once_for_many_threads(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    put(tmp_path, "a.lut.jsonl")
    walks, all_ask = [], threading.Barrier(8)
    whole = listing.list_items

    def counted(root: Path) -> listing.Listing:
        walks.append(root)
        return whole(root)

    monkeypatch.setattr(listing, "list_items", counted)
    listings = Listings(tmp_path, now=lambda: 0.0)

    def ask(_: int) -> list[str]:
        all_ask.wait(10)
        return names(listings)

    with ThreadPoolExecutor(8) as pool:
        assert list(pool.map(ask, range(8))) == [["a.lut.jsonl"]] * 8
    assert len(walks) == 1


def test_listing_that_was_cut_says_so_and_has_the_pages_own_folders(tmp_path: Path) -> None:
    for number in range(20):
        put(tmp_path, f"crowd/{number:02d}.png")
    put(tmp_path, "tables/own.lut.jsonl")
    put(tmp_path, "zoo.lut.jsonl")
    # tables: 1 entry; the root: crowd, tables, zoo; crowd: 20
    whole = list_items(tmp_path, most=24)
    assert ([item.name for item in whole.items], whole.complete) == (["tables/own.lut.jsonl", "zoo.lut.jsonl"], True)
    cut = list_items(tmp_path, most=23)
    assert ([item.name for item in cut.items], cut.complete) == (["tables/own.lut.jsonl"], False)


def test_workspace_that_was_cut_tells_so(workspace: Workspace, monkeypatch: pytest.MonkeyPatch) -> None:
    put(workspace.root, "a.lut.jsonl")
    assert workspace.left_out == ""
    whole = listing.list_items
    monkeypatch.setattr(listing, "list_items", lambda root: whole(root, most=0))
    workspace.look()
    assert "more than 50,000 entries" in workspace.left_out
    with pytest.raises(SpecError, match="more than 50,000 entries"):
        workspace.find("a.lut.jsonl", "table")


def test_find_sees_what_came_a_moment_ago_and_not_what_became_a_link(workspace: Workspace, tmp_path: Path) -> None:
    assert workspace.items() == []
    put(workspace.root, "a.lut.jsonl")
    assert workspace.find("a.lut.jsonl", "table").path == workspace.root / "a.lut.jsonl"
    put(tmp_path, "secret.lut.jsonl")
    (workspace.root / "a.lut.jsonl").unlink()
    (workspace.root / "a.lut.jsonl").symlink_to(tmp_path / "secret.lut.jsonl")
    with pytest.raises(SpecError, match="no table"):
        workspace.find("a.lut.jsonl", "table")
