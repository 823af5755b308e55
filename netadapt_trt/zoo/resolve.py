"""From a :class:`~netadapt_trt.spec.ModelSpec` to a network with fresh weights.

Naming code by ``module:factory`` or ``file.py:factory`` runs that code; nothing else here does.
"""

from __future__ import annotations

import ast
import difflib
import importlib
import importlib.util
import inspect
import os
import re
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from torch import nn

from netadapt_trt.errors import SpecError
from netadapt_trt.zoo.block_network import block_network
from netadapt_trt.zoo.head import reset_head
from netadapt_trt.zoo.mobilenet_v1 import mobilenet_v1
from netadapt_trt.zoo.torchvision_shim import import_torchvision

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping

    from netadapt_trt.spec import ModelSpec

__all__ = ["build_model", "load_factory", "nearest", "parse_args"]

_ZOO: Mapping[str, Callable[..., nn.Module]] = {"block_network": block_network, "mobilenet_v1": mobilenet_v1}
_FORMS = ("torchvision:NAME", "timm:NAME", "zoo:NAME")
_SLOW_INIT = ("googlenet", "inception_v3")  # truncated normal draws through scipy: half a minute, and a warning


def build_model(spec: ModelSpec, *, seed: int = 0) -> nn.Module:
    """The network that ``spec`` names, with weights drawn from ``seed`` (the same for the same seed), in eval mode.

    ``num_classes`` goes to the factory; with ``reset_head`` the factory keeps its own and the output layer is replaced.

    Raises:
        SpecError: unknown name (with the nearest ones), code that does not import, arguments that the factory refuses, or
            something that is not an ``nn.Module``.
    """
    factory, arguments = _factory(spec.model)
    arguments |= parse_args(spec.args)
    if spec.num_classes is not None and not spec.reset_head:
        arguments["num_classes"] = spec.num_classes
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        model = _call(spec, factory, arguments)
        if spec.reset_head:
            if spec.num_classes is None:
                raise SpecError("replacing the output layer needs the number of classes; add --num-classes N")
            reset_head(model, spec.num_classes, spec.input_shape)
    return model.eval()


def parse_args(args: Mapping[str, str]) -> dict[str, Any]:
    """Values as Python literals where they are some (``0.5``, ``True``, ``(1, 2)``), as text otherwise."""
    return {key: _literal(value) for key, value in args.items()}


def _literal(text: str) -> Any:
    if text.lower() in ("true", "false"):
        return text.lower() == "true"
    try:
        return ast.literal_eval(text)
    except (ValueError, SyntaxError, MemoryError, RecursionError):
        return text


def nearest(name: str, known: Iterable[str]) -> str:
    """A half sentence naming the known names closest to ``name``, or all when they are few."""
    names = sorted(known)
    close = difflib.get_close_matches(name, names, n=4, cutoff=0.5)
    if close:
        return f"nearest: {', '.join(close)}"
    return (
        f"known: {', '.join(names)}"
        if len(names) <= 12
        else f"{len(names)} names are known, for example {', '.join(names[:4])}"
    )


def load_factory(text: str, *, what: str, forms: Iterable[str] = ()) -> Callable[..., Any]:
    """What ``package.module:name`` or ``path/file.py:name`` names; modules are also looked for in the working directory.

    ``forms`` are other things that ``text`` may have been meant for, as ``torchvision:NAME``.

    Raises:
        SpecError: no such file or module, an import that fails (with the reason), no such name in it (with the nearest).
    """
    place, _, name = text.rpartition(":")
    if not place or not name:
        raise SpecError(f"{what} {text!r} is not understood; write package.module:factory or path/file.py:factory")
    module = _import_file(Path(place), text, what) if place.endswith(".py") else _import_module(place, text, what, forms)
    factory = getattr(module, name, None)
    if factory is None:
        public = [key for key, value in vars(module).items() if callable(value) and not key.startswith("_")]
        raise SpecError(f"{what} {text!r}: {place} has no {name!r}; {nearest(name, public)}")
    if not callable(factory):
        raise SpecError(f"{what} {text!r}: {name} is a {type(factory).__name__}, not a function")
    result: Callable[..., Any] = factory
    return result


def _import_file(path: Path, text: str, what: str) -> object:
    if not path.is_file():
        raise SpecError(f"{what} {text!r}: there is no file {path}")
    name = f"_netadapt_factory_{path.stem}_{abs(hash(path.resolve())):x}"
    if name in sys.modules:
        return sys.modules[name]
    spec = importlib.util.spec_from_file_location(name, path)
    if spec is None or spec.loader is None:
        raise SpecError(f"{what} {text!r}: {path} cannot be imported")
    module = importlib.util.module_from_spec(spec)
    sys.modules[name] = module  # dataclasses and torch.export look their module up by name
    try:
        spec.loader.exec_module(module)
    except Exception as error:  # whatever the user's code raises
        del sys.modules[name]
        raise SpecError(f"{what} {text!r}: importing {path} failed: {type(error).__name__}: {error}") from error
    return module


def _import_module(place: str, text: str, what: str, forms: Iterable[str]) -> object:
    here = os.getcwd()  # noqa: PTH109   an entry of sys.path is text
    sys.path.append(here)
    try:
        return importlib.import_module(place)
    except Exception as error:  # whatever the user's code raises
        itself = isinstance(error, ModuleNotFoundError) and error.name == place
        raise SpecError(
            f"{what} {text!r}: importing {place} failed: {type(error).__name__}: {error}; "
            f"it must be installed or lie in the working directory{_meant(place, forms) if itself else ''}"
        ) from error
    finally:
        sys.path.remove(here)


def _meant(scheme: str, forms: Iterable[str]) -> str:
    """The forms whose scheme was perhaps misspelled."""
    known = {form.partition(":")[0]: form for form in forms}
    close = difflib.get_close_matches(scheme, known, n=2, cutoff=0.6)
    return f". Or did you mean {' or '.join(known[name] for name in close)}?" if close else ""


def _factory(model: str) -> tuple[Callable[..., nn.Module], dict[str, Any]]:
    """The factory of a model string and the arguments it always gets."""
    scheme, _, name = model.partition(":")
    if scheme == "zoo":
        if name not in _ZOO:
            raise SpecError(f"unknown model {model!r}; {nearest(name, _ZOO)}")
        return _ZOO[name], {}
    if scheme == "torchvision":
        return _torchvision(name)
    if scheme == "timm":
        return _timm(name)
    if not name:
        raise SpecError(
            f"model {model!r} is not understood; write torchvision:NAME, timm:NAME, zoo:NAME, "
            f"package.module:factory or path/file.py:factory{_schemes_of(model)}"
        )
    return load_factory(model, what="model", forms=_FORMS), {}


def _schemes_of(name: str) -> str:
    known = [f"zoo:{zoo}" for zoo in _ZOO] + [f"torchvision:{model}" for model in import_torchvision().models.list_models()]
    close = [text for text in known if text.partition(":")[2] == name]
    return f"; did you mean {' or '.join(close)}?" if close else ""


def _torchvision(name: str) -> tuple[Callable[..., nn.Module], dict[str, Any]]:
    models = import_torchvision().models
    if name not in models.list_models():
        raise SpecError(f"unknown model 'torchvision:{name}'; {nearest(name, models.list_models())}")
    factory: Callable[..., nn.Module] = models.get_model_builder(name)
    arguments: dict[str, Any] = {"weights": None}
    if "weights_backbone" in inspect.signature(factory).parameters:
        arguments["weights_backbone"] = None  # its default downloads
    if name in _SLOW_INIT:
        arguments["init_weights"] = False
    return factory, arguments


def _timm(name: str) -> tuple[Callable[..., nn.Module], dict[str, Any]]:
    import_torchvision()  # timm imports it, too
    try:
        import timm
    except ImportError as error:
        raise SpecError(f"model 'timm:{name}' needs timm, which is not installed; pip install timm") from error
    if not timm.is_model(name):
        raise SpecError(f"unknown model 'timm:{name}'; {nearest(name, timm.list_models())}")

    def factory(**arguments: Any) -> nn.Module:
        network: nn.Module = timm.create_model(name, pretrained=False, **arguments)
        return network

    return factory, {}


_UNEXPECTED = re.compile(r"(?:\w+\.)*?(\w+)(?:\.__init__)?\(\) got an unexpected keyword argument '(\w+)'")
_OURS = {"self", "weights", "weights_backbone", "init_weights", "progress"}
"""Arguments that are given for the caller, or are not of the network."""


def _arguments_meant(factory: Callable[..., Any], told: str) -> str:
    """What the factory takes, where it refused an argument; the class it passed that on to, where that refused it."""
    refused = _UNEXPECTED.search(told)
    if refused is None:
        return ""
    owner, name = refused.groups()
    taker = getattr(inspect.getmodule(inspect.unwrap(factory)), owner, factory)
    try:
        parameters = inspect.signature(taker).parameters.values()
    except (TypeError, ValueError):
        return ""
    known = [p.name for p in parameters if p.name not in _OURS and p.kind not in (p.VAR_KEYWORD, p.VAR_POSITIONAL)]
    if not known:
        return ""
    close = difflib.get_close_matches(name, known, n=1, cutoff=0.5)
    return f"; {f'did you mean {close[0]}? It' if close else 'it'} takes: {', '.join(known)}"


def _call(spec: ModelSpec, factory: Callable[..., nn.Module], arguments: dict[str, Any]) -> nn.Module:
    try:
        model = factory(**arguments)
    except SpecError:
        raise
    except Exception as error:  # whatever the user's code raises
        given = ", ".join(f"{key}={value!r}" for key, value in arguments.items()) or "no arguments"
        hint = "; if it takes no num_classes, add --reset-head" if "num_classes" in str(error) else ""
        hint += _arguments_meant(factory, str(error))
        raise SpecError(f"model {spec.model!r} with {given} failed: {type(error).__name__}: {error}{hint}") from error
    if not isinstance(model, nn.Module):
        raise SpecError(f"model {spec.model!r} returned a {type(model).__name__}; it must return a torch.nn.Module")
    return model
