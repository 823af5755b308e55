"""The sampling thread, with real threads and a scripted source. No test looks at how long something took."""

from __future__ import annotations

import math
import threading
from typing import TYPE_CHECKING, Any

import pytest

from netadapt_trt.errors import PowerError
from netadapt_trt.power.sampler import Sampler

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from types import TracebackType

    from netadapt_trt.power.source import Scope

A_LONG_TIME = 20.0  # seconds after which a test that waits gives up


class Scripted:
    """Gives one entry of the script per reading: a dict or None as it is, an error by raising, a function by calling it."""

    name = "scripted"
    scope: Scope = "board"
    rails = ("VDD_IN", "VDD_SOC")
    step_mw: float | None = 40.0
    time_constant_s = 0.43
    counts_energy = False
    interval_s = 0.001

    def __init__(self, *script: Any) -> None:
        self._script: Iterator[Any] = iter(script)
        self.now = 0.0
        self.opened = 0
        self.refuses: PowerError | None = None
        self.closed = threading.Event()
        self.done = threading.Event()  # the script is at its end

    def clock(self) -> float:
        return self.now

    def details(self) -> dict[str, Any]:
        return {}

    def read(self) -> dict[str, float] | None:
        self.now += 1.0
        entry = next(self._script, None)
        if entry is None:
            self.done.set()
            return None
        if isinstance(entry, BaseException):
            raise entry
        found: dict[str, float] | None = entry() if callable(entry) else entry
        return found

    def __enter__(self) -> Scripted:
        if self.refuses:
            raise self.refuses
        self.opened += 1
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, where: TracebackType | None) -> None:
        assert not self.closed.is_set(), "closed twice"
        self.closed.set()


def reading(total: float) -> dict[str, float]:
    return {"VDD_SOC": total / 10, "VDD_IN": total}


def missing() -> None:
    return None


def wait_for(condition: Callable[[], object]) -> None:
    ticker = threading.Event()
    for _ in range(int(A_LONG_TIME / 0.01)):
        if condition():
            return
        ticker.wait(0.01)
    pytest.fail("gave up waiting")


def test_sampler_stamps_readings_when_they_have_come() -> None:
    source = Scripted(reading(5000.0), reading(5040.0), reading(5080.0))
    with Sampler(source, clock=source.clock) as sampler:
        assert source.done.wait(A_LONG_TIME)
    trace = sampler.trace()
    assert trace.rails == ("VDD_IN", "VDD_SOC")
    assert trace.times_s.tolist() == [1.0, 2.0, 3.0]  # each reading took one second of this clock
    assert trace.power_mw.tolist() == [[5000.0, 500.0], [5040.0, 504.0], [5080.0, 508.0]]
    assert sampler.failure is None
    assert (source.opened, source.closed.is_set()) == (1, True)


def test_sampler_stamps_means_of_a_counter_in_the_middle_of_their_time() -> None:
    source = Scripted(reading(5000.0), missing, reading(6000.0))
    source.counts_energy = True
    with Sampler(source, clock=source.clock) as sampler:
        assert source.done.wait(A_LONG_TIME)
    # From 0 to 1 s, and from 1 to 3 s as the reading between is missing.
    assert sampler.trace().times_s.tolist() == [0.5, 2.0]


def test_sampler_leaves_out_what_is_not_a_whole_reading() -> None:
    source = Scripted(missing, {"VDD_IN": 5000.0}, reading(math.nan), reading(-392.0), {**reading(7000.0), "EXTRA": 1.0})
    with Sampler(source, clock=source.clock) as sampler:
        assert source.done.wait(A_LONG_TIME)
    assert sampler.trace().times_s.tolist() == [4.0, 5.0]
    assert sampler.trace().power_mw[:, 0].tolist() == [-392.0, 7000.0]  # negative is what the sensor said


def test_sampler_gives_parts_and_forgets() -> None:
    source = Scripted(*(reading(float(i)) for i in range(1, 7)))
    with Sampler(source, clock=source.clock) as sampler:
        assert source.done.wait(A_LONG_TIME)
    assert sampler.trace(2.0, 4.0).times_s.tolist() == [2.0, 3.0, 4.0]
    assert sampler.trace(5.5).power_mw[:, 0].tolist() == [6.0]
    assert len(sampler.trace(7.0, 9.0)) == 0
    sampler.forget(4.0)
    assert sampler.trace().times_s.tolist() == [4.0, 5.0, 6.0]


def test_sampler_ends_with_its_source_and_keeps_what_it_has() -> None:
    error = PowerError("rail VDD_IN is gone: the driver was unloaded. Load it again.")
    source = Scripted(reading(5000.0), reading(5040.0), error, reading(9999.0))
    with Sampler(source, clock=source.clock) as sampler:
        wait_for(lambda: sampler.failure)
        assert sampler.failure is error
        assert len(sampler.trace()) == 2
        assert not source.closed.is_set()
    assert source.closed.is_set()
    assert sampler.trace().power_mw[:, 0].tolist() == [5000.0, 5040.0]


def test_sampler_names_the_source_when_a_driver_throws_something_else() -> None:
    source = Scripted(reading(5000.0), OSError(121, "Remote I/O error"))
    with Sampler(source, clock=source.clock) as sampler:
        wait_for(lambda: sampler.failure)
    assert isinstance(sampler.failure, PowerError)
    assert isinstance(sampler.failure.__cause__, OSError)
    with pytest.raises(PowerError, match=r"scripted failed while reading \(OSError.*Remote I/O error.*start again"):
        raise sampler.failure
    assert len(sampler.trace()) == 1


def test_sampler_leaves_a_hanging_source_behind() -> None:
    let_go = threading.Event()

    def hang() -> dict[str, float]:
        let_go.wait(A_LONG_TIME)
        return reading(9999.0)

    source = Scripted(reading(5000.0), hang)
    with Sampler(source, patience_s=0.05) as sampler:
        wait_for(lambda: sampler.failure)
        assert "has not answered for over 0.05 s" in str(sampler.failure)
        assert len(sampler.trace()) == 1  # does not wait for the source
    # Outside although the reading still hangs; the source is not closed under it.
    assert not let_go.is_set()
    assert not source.closed.is_set()
    let_go.set()
    assert source.closed.wait(A_LONG_TIME)  # by the thread itself, when it comes back
    assert sampler.trace().power_mw[:, 0].tolist() == [5000.0]  # what comes after the end is not kept


def test_sampler_goes_on_when_a_slow_source_comes_back() -> None:
    let_go = threading.Event()

    def hang() -> dict[str, float]:
        let_go.wait(A_LONG_TIME)
        return reading(6000.0)

    source = Scripted(reading(5000.0), hang, reading(7000.0))
    with Sampler(source, patience_s=0.05) as sampler:
        wait_for(lambda: sampler.failure)
        let_go.set()
        assert source.done.wait(A_LONG_TIME)
        wait_for(lambda: sampler.failure is None)
    assert sampler.trace().power_mw[:, 0].tolist() == [5000.0, 6000.0, 7000.0]


def test_sampler_does_not_start_when_the_source_does_not_open() -> None:
    before = threading.active_count()
    source = Scripted(reading(1.0))
    source.refuses = PowerError("energy_uj may not be read. Run chmod.")
    with pytest.raises(PowerError, match="may not be read"), Sampler(source):
        pytest.fail("opened")
    assert threading.active_count() == before


def test_sampler_stops_its_thread() -> None:
    source = Scripted()
    with Sampler(source):
        assert source.done.wait(A_LONG_TIME)
    assert not [thread for thread in threading.enumerate() if thread.name == "power-scripted" and thread.is_alive()]


@pytest.mark.parametrize(("hz", "interval_s", "period_s"), [(20.0, 0.0, 0.05), (10.0, 0.005, 0.1), (20.0, 1.0, 1.0)])
def test_sampler_is_never_faster_than_its_source(hz: float, interval_s: float, period_s: float) -> None:
    source = Scripted()
    source.interval_s = interval_s
    assert Sampler(source, hz).period_s == pytest.approx(period_s)


def test_sampler_waits_longer_for_a_slow_source() -> None:
    source = Scripted()
    assert Sampler(source).patience_s == 2.0
    source.interval_s = 1.0
    assert Sampler(source).patience_s == 5.0


@pytest.mark.parametrize("hz", [0.0, -5.0, math.nan, math.inf])
def test_sampler_refuses_rates_that_are_none(hz: float) -> None:
    with pytest.raises(ValueError, match="sampling rate"):
        Sampler(Scripted(), hz)
