"""Resolve the packages of the Jetson images as aarch64 wheels, from the registry that pip is set up with.

    python tools/check_image.py [6 7]

Installs nothing. Says which package has no wheel for the image's Python, or which pin is missing from the list; and of what
Dockerfile.jetson installs beside the lists (setuptools; on request jetson-stats and pycuda), which version is not offered.
"""

from __future__ import annotations

import argparse
import json
import re
import subprocess
import sys
from pathlib import Path

LISTS = Path(__file__).parent / "jetson_image"
DOCKERFILE = Path(__file__).parents[1] / "Dockerfile.jetson"
# JetPack: (Python, glibc of its Ubuntu)
IMAGES = {"6": ("3.10", 35), "7": ("3.12", 39)}
_OLDEST_GLIBC = 17
_OPTIONAL = {"JTOP_VERSION": "jetson-stats", "PYCUDA_VERSION": "pycuda"}


def pins(path: Path) -> dict[str, str]:
    """Package name, as pip normalises it, to version."""
    lines = (line.split("#")[0].strip() for line in path.read_text().splitlines())
    pairs = (line.split("==") for line in lines if line)
    return {name.lower().replace("_", "-"): version for name, version in pairs}


def beside_the_lists(text: str) -> dict[str, list[str]]:
    """Package to the versions that a Dockerfile's ARG lines set or its comments on an empty one name."""
    (setuptools,) = re.findall(r"^ARG SETUPTOOLS_VERSION=(\S+)$", text, re.MULTILINE)
    found = {"setuptools": [setuptools]}
    for argument, package in _OPTIONAL.items():
        (comment,) = re.findall(rf'((?:^#.*\n)+)ARG {argument}=""$', text, re.MULTILINE)
        found[package] = re.findall(r"\d+(?:\.\d+)+", comment)
    return found


def offered(package: str) -> set[str]:
    """Versions that pip can get. jetson-stats 4 and pycuda have no wheels, so they are asked for by name only."""
    command = [sys.executable, "-m", "pip", "index", "versions", package]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    listed = re.search(r"^Available versions: (.*)$", done.stdout, re.MULTILINE)
    return set(listed[1].split(", ")) if listed else set()


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
    for package, versions in beside_the_lists(DOCKERFILE.read_text()).items():
        lacking = sorted(set(versions) - offered(package))
        failed = failed or bool(lacking)
        print(f"{package}: {'not offered: ' + ', '.join(lacking) if lacking else ', '.join(versions) + ' offered'}")
    return int(failed)


if __name__ == "__main__":
    sys.exit(main())
