"""Make a pretrained network fit a real device: measured tables, NetAdapt, and the promise checked at the end.

The names below do what the verbs of the command line do, as typed functions on files and plain objects:

=============  ==================================================================================================
verb           functions
=============  ==================================================================================================
``plan``       :func:`open_network`, :func:`make_plan`, :func:`save_plan`, :func:`load_plan`
``profile``    :func:`load_backend`, :func:`profile_plan`
``lut``        :func:`read_lut`, :func:`merge_luts`, :class:`NetworkEstimator`
``train``      :func:`open_data`, :func:`train_network`
``adapt``      :class:`AdaptSettings`, :func:`adapt_network`, :func:`resume_run`
``search``     :class:`SearchSettings`, :func:`search_blocks`, :func:`resume_search`
``export``     :func:`export_network`
``bench``      :func:`bench`
``report``     :func:`write_report`
=============  ==================================================================================================

Everything is imported on first use, so ``import netadapt_trt`` costs nothing and devices need no torch.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from netadapt_trt.adapt.run import adapt as adapt_network
    from netadapt_trt.adapt.run import resume as resume_run
    from netadapt_trt.adapt.settings import AdaptSettings
    from netadapt_trt.backend import backend_names, load_backend
    from netadapt_trt.deploy.bench import bench
    from netadapt_trt.deploy.export import export_network
    from netadapt_trt.errors import NetadaptError
    from netadapt_trt.graph.network import open_network
    from netadapt_trt.graph.planner import make_plan
    from netadapt_trt.lut.estimator import NetworkEstimator
    from netadapt_trt.lut.store import merge_luts, read_lut
    from netadapt_trt.plan.store import load_plan, save_plan
    from netadapt_trt.profile.run import profile as profile_plan
    from netadapt_trt.report.page import write_report
    from netadapt_trt.search.run import resume_search
    from netadapt_trt.search.run import search as search_blocks
    from netadapt_trt.search.settings import SearchSettings
    from netadapt_trt.spec import Budget, ModelSpec, parse_budget
    from netadapt_trt.training.data import open_data
    from netadapt_trt.training.seed_network import train_network

__all__ = [
    "AdaptSettings",
    "Budget",
    "ModelSpec",
    "NetadaptError",
    "NetworkEstimator",
    "SearchSettings",
    "adapt_network",
    "backend_names",
    "bench",
    "export_network",
    "load_backend",
    "load_plan",
    "make_plan",
    "merge_luts",
    "open_data",
    "open_network",
    "parse_budget",
    "profile_plan",
    "read_lut",
    "resume_run",
    "resume_search",
    "save_plan",
    "search_blocks",
    "train_network",
    "write_report",
]

# name -> (module, name there). A name must not be that of a room (plan, profile, adapt, report, ...): importing the room
# would put the module in its place.
_HOMES = {
    "AdaptSettings": ("adapt.settings", "AdaptSettings"),
    "Budget": ("spec", "Budget"),
    "ModelSpec": ("spec", "ModelSpec"),
    "NetadaptError": ("errors", "NetadaptError"),
    "NetworkEstimator": ("lut.estimator", "NetworkEstimator"),
    "SearchSettings": ("search.settings", "SearchSettings"),
    "adapt_network": ("adapt.run", "adapt"),
    "backend_names": ("backend", "backend_names"),
    "bench": ("deploy.bench", "bench"),
    "export_network": ("deploy.export", "export_network"),
    "load_backend": ("backend", "load_backend"),
    "load_plan": ("plan.store", "load_plan"),
    "make_plan": ("graph.planner", "make_plan"),
    "merge_luts": ("lut.store", "merge_luts"),
    "open_data": ("training.data", "open_data"),
    "open_network": ("graph.network", "open_network"),
    "parse_budget": ("spec", "parse_budget"),
    "profile_plan": ("profile.run", "profile"),
    "read_lut": ("lut.store", "read_lut"),
    "resume_run": ("adapt.run", "resume"),
    "resume_search": ("search.run", "resume_search"),
    "save_plan": ("plan.store", "save_plan"),
    "search_blocks": ("search.run", "search"),
    "train_network": ("training.seed_network", "train_network"),
    "write_report": ("report.page", "write_report"),
}


def __getattr__(name: str) -> Any:
    if name == "__version__":
        from importlib.metadata import version

        return version("netadapt-trt")
    if name not in _HOMES:
        raise AttributeError(f"module 'netadapt_trt' has no attribute {name!r}")
    module, attribute = _HOMES[name]
    return getattr(import_module(f"netadapt_trt.{module}"), attribute)


def __dir__() -> list[str]:
    return sorted([*__all__, "__version__"])
