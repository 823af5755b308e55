"""Which chip's power a backend's measurement asks for."""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

import pytest

from netadapt_trt.backend import PlacedBackend, load_backend
from netadapt_trt.cli.power import open_meter
from netadapt_trt.errors import PowerError
from netadapt_trt.spec import Placement

if TYPE_CHECKING:
    from netadapt_trt.backend import Backend


class Elsewhere:
    """A backend from elsewhere that does not say what it runs on."""

    name = "elsewhere"


def tensorrt(*, integrated: bool) -> Backend:
    cuda = importlib.import_module("cuda_fake").FakeCuda(integrated=integrated, bus_id="" if integrated else "0000:65:00.0")
    backend: Any = importlib.import_module("netadapt_trt.backends.trt")
    return backend.TrtBackend(object(), cuda)  # type: ignore[no-any-return]


@pytest.mark.parametrize(
    ("backend", "placement"),
    [
        (load_backend("ort"), Placement(chip="cpu")),
        (tensorrt(integrated=True), Placement(chip="gpu", integrated=True)),
        (tensorrt(integrated=False), Placement(chip="gpu", integrated=False, bus_id="0000:65:00.0")),
        (Elsewhere(), None),
    ],
)
def test_meter_is_asked_for_the_chip_that_the_backend_runs_on(
    monkeypatch: pytest.MonkeyPatch, backend: Any, placement: Placement | None
) -> None:
    asked = []

    def find(**options: Any) -> None:
        asked.append(options)

    monkeypatch.setattr("netadapt_trt.power.find.find_source", find)
    assert open_meter("auto", backend) is None
    assert asked == [{"prefer": None, "placement": placement}]


def test_a_gpu_backend_without_a_gpu_still_is_none_of_the_processor() -> None:
    trt: Any = importlib.import_module("netadapt_trt.backends.trt")
    error: Any = importlib.import_module("netadapt_trt.backends.trt.cuda").CudaError

    class NoDevice:
        def device_info(self) -> None:
            raise error("no device")

    backend = trt.TrtBackend(object(), NoDevice())
    assert isinstance(backend, PlacedBackend)
    assert backend.placement() == Placement(chip="gpu")
    with pytest.raises(PowerError, match="runs on the GPU"):
        open_meter("rapl", backend)  # type: ignore[arg-type]
    assert open_meter("none", backend) is None  # type: ignore[arg-type]
    assert open_meter("rapl", load_backend("fake")) is None  # a simulated one knows its energy itself
