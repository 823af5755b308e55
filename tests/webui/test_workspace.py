from __future__ import annotations

import os
from typing import TYPE_CHECKING

import pytest

from netadapt_trt.errors import SpecError
from netadapt_trt.space.store import load_space, save_space
from netadapt_trt.webui.workspace import Workspace, check_run_name, safe_name

if TYPE_CHECKING:
    from pathlib import Path


@pytest.mark.parametrize(
    ("given", "expected"),
    [
        ("table.txt", "table.txt"),
        ("../../etc/passwd", "passwd"),
        ("/etc/shadow", "shadow"),
        ("..\\..\\windows\\system.ini", "system.ini"),
        ("C:\\a\\b.lut.jsonl", "b.lut.jsonl"),
        ("..", "upload"),
        (".", "upload"),
        ("", "upload"),
        ("///", "upload"),
        (".bashrc", "bashrc"),
        ("a\x00b.txt", "a_b.txt"),
        ("a b;rm -rf $HOME.txt", "a_b_rm_-rf__HOME.txt"),
        ("-rf.txt", "rf.txt"),
        ("speed\u202etxt.exe", "speed_txt.exe"),
        ("Tabelle für Pi.txt", "Tabelle_für_Pi.txt"),
        ("表.lut.jsonl.gz", "表.lut.jsonl.gz"),
        ("\ud800.txt", "upload.txt"),
        ("con\n.txt", "con.txt"),
    ],
)  # fmt: skip
def test_safe_name_is_one_plain_component(given: str, expected: str) -> None:
    assert safe_name(given) == expected


@pytest.mark.parametrize(
    "given", ["x" * 5000 + ".txt", "ü" * 3000 + ".lut.jsonl.gz", "." * 400, "a." + "b" * 900, "😀" * 500]
)
def test_safe_name_is_short_enough_for_any_file_system(given: str, tmp_path: Path) -> None:
    name = safe_name(given)
    assert 0 < len(name.encode()) <= 140
    (tmp_path / name).write_text("x")
    assert not name.startswith(".")


@pytest.mark.parametrize("name", ["", ".", "..", "a/b", "../x", "/x", "a b", "-x", ".x", "x" * 65, "a\x00", "ü", "a\n"])
def test_run_name_that_cannot_be_is_refused(name: str) -> None:
    with pytest.raises(SpecError, match="cannot be the name of a run"):
        check_run_name(name)


def fill(root: Path) -> None:
    (root / "deep" / "er").mkdir(parents=True)
    (root / "deep" / "er" / "cpu.lut.jsonl").write_text("{}")
    (root / "speed.txt").write_text("\n0.1 0.2 0.3\n")
    (root / "notes.txt").write_text("0.1 seconds was too slow\n")
    (root / "other.json").write_text("{}")
    save_space(load_space("fbnet-small"), root / "mine.json")
    for name, kind in (("runs/a", "netadapt-run"), ("runs/b", "netadapt-search"), ("runs/c", "something-else")):
        (root / name).mkdir(parents=True)
        (root / name / "run.json").write_text(f'{{"format": "{kind}", "version": 1}}')
        (root / name / "inner.lut.jsonl").write_text("{}")
    (root / "pictures" / "train").mkdir(parents=True)
    (root / "pictures" / "val").mkdir()


def test_items_are_what_can_be_chosen(workspace: Workspace) -> None:
    fill(workspace.root)
    found = {item.name: item.kind for item in workspace.items()}
    assert found == {
        "deep/er/cpu.lut.jsonl": "table",
        "mine.json": "space",
        "pictures": "data",
        "runs/a": "adapt",
        "runs/b": "search",
        "runs/c/inner.lut.jsonl": "table",
        "speed.txt": "table",
    }
    assert [item.name for item in workspace.items("adapt", "search")] == ["runs/a", "runs/b"]


def test_items_leave_out_links_to_elsewhere(workspace: Workspace, tmp_path: Path) -> None:
    outside = tmp_path / "outside"
    outside.mkdir()
    (outside / "secret.lut.jsonl").write_text("{}")
    (workspace.root / "link.lut.jsonl").symlink_to(outside / "secret.lut.jsonl")
    (workspace.root / "folder").symlink_to(outside)
    (workspace.root / "loop").symlink_to(workspace.root)
    (workspace.root / "gone.txt").symlink_to(outside / "nothing")
    (workspace.root / "own.lut.jsonl").write_text("{}")
    (workspace.root / "inside.lut.jsonl").symlink_to(workspace.root / "own.lut.jsonl")
    assert [item.name for item in workspace.items()] == ["inside.lut.jsonl", "own.lut.jsonl"]


@pytest.mark.parametrize(
    "name",
    ["../outside.txt", "/etc/passwd", "speed.txt\x00", "speed.txt/", "./speed.txt", "deep/../speed.txt", "",
     "x" * 9999, None,
     3, ["speed.txt"]],
)  # fmt: skip
def test_find_takes_names_of_the_listing_only(name: object, workspace: Workspace) -> None:
    fill(workspace.root)
    (workspace.root.parent / "outside.txt").write_text("1 2 3\n")
    assert workspace.find("speed.txt", "table").path == workspace.root / "speed.txt"
    with pytest.raises(SpecError, match="the workspace has no table"):
        workspace.find(name, "table")


def test_find_asks_for_the_kind(workspace: Workspace) -> None:
    fill(workspace.root)
    with pytest.raises(SpecError, match="no search"):
        workspace.find("runs/a", "search")


def test_data_is_what_is_offered(tmp_path: Path) -> None:
    workspace = Workspace(tmp_path / "w", data=["cifar10:/data/cifar"])
    fill(workspace.root)
    assert workspace.data_specs() == ["digits", "cifar10:/data/cifar", "imagefolder:pictures"]
    assert workspace.data_argument("digits") == "digits"
    assert workspace.data_argument("cifar10:/data/cifar") == "cifar10:/data/cifar"
    assert workspace.data_argument("imagefolder:pictures") == f"imagefolder:{workspace.root / 'pictures'}"
    for refused in ("os:system", "imagefolder:/etc", "imagefolder:../x", "cifar10:.", "path/file.py:make", "", None, 3):
        with pytest.raises(SpecError, match="is offered here"):
            workspace.data_argument(refused)


def test_new_run_is_numbered_or_named_and_never_one_that_is_there(workspace: Workspace) -> None:
    assert workspace.new_run(None, "search") == workspace.runs / "search-001"
    (workspace.runs / "search-001").mkdir(parents=True)
    assert workspace.new_run(None, "search", taken={"runs/search-002"}) == workspace.runs / "search-003"
    assert workspace.new_run("mine", "search") == workspace.runs / "mine"
    with pytest.raises(SpecError, match="already"):
        workspace.new_run("search-001", "search")
    with pytest.raises(SpecError, match="already"):
        workspace.new_run("mine", "search", taken={"runs/mine"})


def test_workspace_that_is_a_file_is_refused(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("x")
    with pytest.raises(SpecError, match="is a file"):
        Workspace(tmp_path / "file")


@pytest.mark.parametrize("name", ["tables", "spaces", "runs", "jobs"])
@pytest.mark.parametrize("there", [True, False])
def test_workspace_that_would_write_elsewhere_is_refused(name: str, there: bool, tmp_path: Path) -> None:
    (tmp_path / "work").mkdir()
    if there:
        (tmp_path / "elsewhere").mkdir()
    (tmp_path / "work" / name).symlink_to(tmp_path / "elsewhere")
    with pytest.raises(SpecError, match=rf"work/{name} is a link to .*/elsewhere, outside the workspace.*remove the link"):
        Workspace(tmp_path / "work")


def test_workspace_may_itself_be_a_link_and_have_links_within(tmp_path: Path) -> None:
    (tmp_path / "real" / "kept").mkdir(parents=True)
    (tmp_path / "real" / "runs").symlink_to("kept")
    (tmp_path / "work").symlink_to(tmp_path / "real")
    assert Workspace(tmp_path / "work").runs == tmp_path / "real" / "runs"


def test_items_of_folders_that_may_not_be_read_are_left_out(workspace: Workspace) -> None:
    fill(workspace.root)
    (workspace.root / "deep").chmod(0)
    try:
        names = [item.name for item in workspace.items("table")]
    finally:
        (workspace.root / "deep").chmod(0o755)
    assert "speed.txt" in names
    assert ("deep/er/cpu.lut.jsonl" in names) == (os.geteuid() == 0)
