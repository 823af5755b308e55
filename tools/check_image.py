"""Resolve the packages of the Jetson images as aarch64 wheels, from the registry that pip is set up with.

    python tools/check_image.py [6 7]

Installs nothing. Says which package has no wheel for the image's Python, or which pin is missing from the list.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
from pathlib import Path

LISTS = Path(__file__).parent / "jetson_image"
# JetPack: (Python, glibc of its Ubuntu)
IMAGES = {"6": ("3.10", 35), "7": ("3.12", 39)}
_OLDEST_GLIBC = 17


def pins(path: Path) -> dict[str, str]:
    """Package name, as pip normalises it, to version."""
    lines = (line.split("#")[0].strip() for line in path.read_text().splitlines())
    pairs = (line.split("==") for line in lines if line)
    return {name.lower().replace("_", "-"): version for name, version in pairs}


def resolve(jetpack: str) -> tuple[dict[str, str], str]:
    """(what pip would install, its complaint). With dependencies, so that a missing pin shows up as one more package."""
    python, glibc = IMAGES[jetpack]
    tags = [f"manylinux_2_{minor}_aarch64" for minor in range(glibc, _OLDEST_GLIBC - 1, -1)]
    platforms = [word for tag in (*tags, "manylinux2014_aarch64") for word in ("--platform", tag)]
    command = [sys.executable, "-m", "pip", "install", "--dry-run", "--ignore-installed", "--quiet", "--report", "-"]
    command += ["--only-binary=:all:", "--implementation", "cp", "--python-version", python, "--target", "unused"]
    listed = str(LISTS / f"jetpack{jetpack}.txt")
    done = subprocess.run([*command, *platforms, "-r", listed], capture_output=True, text=True, check=False)
    if done.returncode:
        return {}, done.stderr.strip()
    report = json.loads(done.stdout)
    return {
        entry["metadata"]["name"].lower().replace("_", "-"): entry["metadata"]["version"] for entry in report["install"]
    }, ""


def main() -> int:
    """Exit status 0 when every list resolves to exactly itself."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("jetpacks", nargs="*", choices=[*IMAGES, []], metavar="JETPACK")
    failed = False
    for jetpack in parser.parse_args().jetpacks or IMAGES:
        found, complaint = resolve(jetpack)
        missing = sorted(found.keys() - pins(LISTS / f"jetpack{jetpack}.txt").keys())
        if complaint or missing:
            failed = True
            print(f"JetPack {jetpack}: {complaint or 'not pinned: ' + ', '.join(missing)}")
        else:
            print(f"JetPack {jetpack}, Python {IMAGES[jetpack][0]}: {len(found)} packages, all with aarch64 wheels")
    return int(failed)


if __name__ == "__main__":
    sys.exit(main())
