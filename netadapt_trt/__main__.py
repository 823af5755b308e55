"""``python -m netadapt_trt`` is the command line."""

from __future__ import annotations

from netadapt_trt.cli.main import main

__all__: list[str] = []

if __name__ == "__main__":
    main()
