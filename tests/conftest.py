"""Shared by all rooms: where the repository is, and one thread for torch so that tests do not fight over cores."""

from __future__ import annotations

import os
import sys
from pathlib import Path

# Before anything loads torch: spinning OpenMP threads make small networks many times slower on a busy machine.
os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
os.environ.setdefault("OMP_NUM_THREADS", "1")

# Fakes that several rooms use are plain modules: importlib.import_module("tensorrt_fake"). Behind everything else, so that
# none of them can shadow a package.
sys.path.append(str(Path(__file__).parent / "fakes"))
