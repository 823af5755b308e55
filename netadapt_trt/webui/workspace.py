"""The workspace: one directory whose tables, spaces, plans, data and runs the page offers, and into which it writes.

Nothing outside of it is ever read or written because somebody named it: what a user names must be in the listing, and the
listing does not follow links out of the workspace.
"""

from __future__ import annotations

import json
import os
import re
import unicodedata
from pathlib import Path
from typing import TYPE_CHECKING, Any

from netadapt_trt.errors import FileFormatError, SpecError
from netadapt_trt.files import shown
from netadapt_trt.webui.listing import LUT_ENDINGS, MOST_ENTRIES, OWN, SMALL_BYTES, Item, Kind, Listings

if TYPE_CHECKING:
    from collections.abc import Collection, Sequence

    from netadapt_trt.webui.listing import Listing

__all__ = ["Item", "Kind", "Workspace", "check_run_name", "read_small_json", "safe_name"]

_LONGEST_BYTES = 120
_RUN_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,63}")
_ENDINGS = (*LUT_ENDINGS, ".jsonl.gz", ".txt.gz")


def safe_name(text: str, *, default: str = "upload") -> str:
    """``text`` as the name of one file: its last part, letters, digits and ``._-`` kept, never hidden, never long.

    Whatever comes in, the result is one component of a path that names neither a parent nor an absolute place.
    """
    last = re.split(r"[/\\]", unicodedata.normalize("NFC", text))[-1]
    plain = "".join(char if char.isalnum() or char in "._-" else "_" for char in last).lstrip(".")
    stem, ending = _split(plain)
    encoded = stem.encode("utf-8", errors="ignore")[: _LONGEST_BYTES - len(ending.encode("utf-8", errors="ignore"))]
    stem = encoded.decode("utf-8", errors="ignore").strip("._-")
    return (stem or default) + ending.encode("utf-8", errors="ignore").decode("utf-8")


def _split(name: str) -> tuple[str, str]:
    """(stem, ending), where ``.lut.jsonl.gz`` is one ending; an ending of more than 16 characters is part of the stem."""
    for ending in sorted(_ENDINGS, key=len, reverse=True):
        if name.lower().endswith(ending):
            return name[: -len(ending)], name[-len(ending) :]
    stem, dot, ending = name.rpartition(".")
    return (stem, dot + ending) if dot and stem and len(ending) < 16 else (name, "")


def check_run_name(name: str) -> str:
    """``name``, if a new run's directory may have it. Raises SpecError."""
    if not _RUN_NAME.fullmatch(name):
        raise SpecError(
            f"{shown(name)} cannot be the name of a run; use up to 64 letters, digits, dots, dashes and underscores, "
            f"beginning with a letter or digit"
        )
    return name


class Workspace:
    """The directory ``root``; ``data`` are data specs that whoever started the page allows besides what lies in it."""

    def __init__(self, root: Path | str, *, data: Sequence[str] = ()) -> None:
        self.root = Path(root).resolve()
        if self.root.exists() and not self.root.is_dir():
            raise SpecError(f"{self.root} is a file; name a directory for the workspace")
        self.root.mkdir(parents=True, exist_ok=True)
        for name in (*OWN, self.jobs.name):
            _require_inside(self.root / name, self.root)
        self._data = tuple(data)
        self._listings = Listings(self.root)

    @property
    def jobs(self) -> Path:
        """State and logs of jobs."""
        return self.root / "jobs"

    @property
    def tables(self) -> Path:
        """Where uploaded tables go."""
        return self.root / "tables"

    @property
    def spaces(self) -> Path:
        """Where uploaded spaces go."""
        return self.root / "spaces"

    @property
    def runs(self) -> Path:
        """Where new runs go."""
        return self.root / "runs"

    def items(self, *kinds: Kind) -> list[Item]:
        """Everything of these kinds (of all, when none is named) in the workspace, by name; a few seconds old at most."""
        return _of(self._listings.latest(), kinds)

    def look(self) -> None:
        """Somebody opens or loads a page: what lies here now is listed, not what lay here a moment ago."""
        self._listings.forget()

    @property
    def left_out(self) -> str:
        """What to tell where the workspace has more in it than is looked at; empty where everything is listed."""
        if self._listings.latest().complete:
            return ""
        return (
            f"the workspace has more than {MOST_ENTRIES:,} entries: what lies further on is not listed. Start the page in a "
            f"smaller directory (--workspace), or name data outside of it with --data."
        )

    def find(self, name: object, *kinds: Kind) -> Item:
        """The item of that name. Raises SpecError for one that the listing does not have, whatever its name points to."""
        if isinstance(name, str):
            # Nothing is joined to a path here: a name is in the listing or it is not. It may have come a moment ago, or have
            # become a link to elsewhere.
            for fresh in (False, True):
                found = next((item for item in _of(self._listings.latest(fresh=fresh), kinds) if item.name == name), None)
                if found is not None and found.path.exists() and found.path.resolve().is_relative_to(self.root):
                    return found
        what = " or ".join(_WORDS[kind] for kind in kinds) or "file"
        raise SpecError(
            f"the workspace has no {what} {shown(name)}; choose one that is listed, or upload it"
            + (f" ({self.left_out})" if self.left_out else "")
        )

    def data_specs(self) -> list[str]:
        """What searches can train on: the embedded digits, what was allowed at the start, folders of pictures in here."""
        here = [f"imagefolder:{item.name}" for item in self.items("data")]
        return list(dict.fromkeys(["digits", *self._data, *here]))

    def data_argument(self, spec: object) -> str:
        """The ``--data`` of one of :meth:`data_specs`, with a full path. Raises SpecError for anything else."""
        if not isinstance(spec, str) or spec not in self.data_specs():
            raise SpecError(
                f"no data {shown(spec)} is offered here (there are: {', '.join(self.data_specs())}); put a folder with "
                f"train/ and test/ into the workspace, or start the page with --data imagefolder:DIR"
            )
        scheme, _, name = spec.partition(":")
        if spec in self._data or scheme != "imagefolder":
            return spec
        return f"imagefolder:{self.find(name, 'data').path}"

    def new_run(self, name: str | None, prefix: str, *, taken: Collection[str] = ()) -> Path:
        """The directory of a new run: of that name, which must be free, else ``prefix`` and the next number.

        ``taken`` are names (below the workspace) that somebody is going to use. Raises SpecError for a name that is taken or
        cannot be one.
        """

        def free(path: Path) -> bool:
            return not path.exists() and not path.is_symlink() and self.name_of(path) not in taken

        if name is not None:
            path = self.runs / check_run_name(name)
            if not free(path):
                raise SpecError(f"there is a run {shown(name)} already; choose another name, or resume that one")
            return path
        number = 1
        while not free(path := self.runs / f"{prefix}-{number:03d}"):
            number += 1
        return path

    def unplaced(self, text: str) -> str:
        """A sentence without the place of the workspace on this machine."""
        return text.replace(f"{self.root}/", "")

    def name_of(self, path: Path) -> str:
        """The name of a path in the workspace."""
        return path.relative_to(self.root).as_posix()


def _require_inside(folder: Path, root: Path) -> None:
    """Raises SpecError for a folder of the page's own that a link puts elsewhere: the page would write there."""
    target = Path(os.path.realpath(folder))  # of links in a circle resolve() makes an error
    if not target.is_relative_to(root):
        raise SpecError(
            f"{folder} is a link to {target}, outside the workspace, and the page writes into its workspace only; remove "
            f"the link, or start the page where these files lie (--workspace)"
        )


def _of(listing: Listing, kinds: Collection[Kind]) -> list[Item]:
    return [item for item in listing.items if not kinds or item.kind in kinds]


_WORDS: dict[Kind, str] = {
    "table": "table", "space": "space", "plan": "plan", "adapt": "run", "search": "search", "data": "data set",
}  # fmt: skip


def read_small_json(path: Path) -> dict[str, Any]:
    """A JSON object from a file of at most a megabyte. Raises FileFormatError."""
    try:
        if path.stat().st_size > SMALL_BYTES:
            raise FileFormatError(f"{path.name} is too large to be shown")
        content = json.loads(path.read_bytes())
    except (OSError, ValueError, RecursionError) as error:
        raise FileFormatError(f"{path.name} cannot be read: {error}") from error
    if not isinstance(content, dict):
        raise FileFormatError(f"{path.name} is no JSON object")
    return content
