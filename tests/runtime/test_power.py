"""Energy, heat and clocks are read as the kernel writes them, and what is not there is None; load shows a slowdown."""

import itertools
import json
import stat

import pytest
from bench_command import run

from bebert_infer.measure.power import Reading, joules_between, read_machine
from bebert_infer.measure.sustained import SLICES, SLOWER, slowdown, sustain


def put(path, text):
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(f"{text}\n")


@pytest.fixture
def machine(tmp_path, monkeypatch):
    """A made-up /sys with two packages, two zones and two clocks, and no vcgencmd."""
    monkeypatch.setenv("PATH", str(tmp_path / "bin"))
    for number, energy in ((0, 900_000), (1, 100)):
        put(tmp_path / f"class/powercap/intel-rapl:{number}/energy_uj", energy)
        put(tmp_path / f"class/powercap/intel-rapl:{number}/max_energy_range_uj", 1_000_000)
    put(tmp_path / "class/powercap/intel-rapl:0:0/energy_uj", 77)  # a part of package 0, counted there already
    put(tmp_path / "class/thermal/thermal_zone0/temp", 45_500)
    put(tmp_path / "class/thermal/thermal_zone0/type", "cpu-thermal")
    put(tmp_path / "class/thermal/thermal_zone1/temp", "garbage")
    put(tmp_path / "devices/system/cpu/cpufreq/policy0/scaling_cur_freq", 1_500_000)
    put(tmp_path / "devices/system/cpu/cpufreq/policy4/scaling_cur_freq", 2_400_000)
    return tmp_path


def test_what_the_machine_says(machine):
    found = read_machine(machine)
    assert found.microjoules == {"intel-rapl:0": 900_000, "intel-rapl:1": 100}
    assert found.celsius == {"thermal_zone0 cpu-thermal": 45.5}
    assert found.megahertz == [1500, 2400] and found.throttled is None


def test_a_machine_that_says_nothing_gives_none_and_no_guess(tmp_path, monkeypatch):
    monkeypatch.setenv("PATH", str(tmp_path))
    nothing = read_machine(tmp_path)
    assert nothing == Reading({}, {}, [], None)
    assert joules_between(nothing, nothing, tmp_path) is None


def test_joules_of_all_packages_also_when_a_counter_wraps(machine):
    before = read_machine(machine)
    put(machine / "class/powercap/intel-rapl:0/energy_uj", 200_000)  # wrapped at 1,000,000
    put(machine / "class/powercap/intel-rapl:1/energy_uj", 500_100)
    assert joules_between(before, read_machine(machine), machine) == pytest.approx(0.3 + 0.5)
    (machine / "class/powercap/intel-rapl:0/max_energy_range_uj").unlink()
    assert joules_between(before, read_machine(machine), machine) is None, "a wrap of unknown length"
    (machine / "class/powercap/intel-rapl:0/energy_uj").unlink()
    assert joules_between(before, read_machine(machine), machine) is None, "a package is gone"


@pytest.mark.parametrize(
    ("answer", "reasons"),
    [
        ("throttled=0x0", []),
        ("throttled=0x50005", ["under-voltage", "throttled"]),
        ("throttled=0x80000", []),  # it happened, but not now
        ("VCHI initialization failed", None),
    ],
)
def test_reasons_of_a_raspberry_pi(machine, answer, reasons):
    tool = machine / "bin" / "vcgencmd"
    put(tool, f"#!/bin/sh\necho '{answer}'")
    tool.chmod(tool.stat().st_mode | stat.S_IXUSR)
    assert read_machine(machine).throttled == reasons


def test_a_machine_that_gets_hot_is_slower_in_the_end():
    """A made-up clock: calls take 10 ms, and 20 ms in the second half; every answer costs 2 J."""
    now = 0.0
    microjoules = 0

    def call():
        nonlocal now, microjoules
        now += 0.02 if now > 5 else 0.01
        microjoules += 2_000_000

    def read():
        return Reading({"intel-rapl:0": microjoules}, {"a": 40 + now, "b": 20}, [2000 - 100 * now, 2400], [])

    slices = sustain(call, 10.0, read=read, clock=lambda: now)
    assert (
        len(slices) == SLICES and slices[0].median_ms == pytest.approx(10) and slices[-1].median_ms == pytest.approx(20)
    )
    assert slowdown(slices) == pytest.approx(2) and slowdown(slices) > SLOWER
    assert slices[3].joules == pytest.approx(2)
    assert slices[-1].celsius == pytest.approx(50, abs=0.5) and slices[-1].megahertz == pytest.approx(1000, abs=50)
    assert sum(part.answers for part in slices) == pytest.approx(750, abs=2)


def test_every_slice_has_an_answer_even_if_one_lasts_longer_than_a_slice():
    ticks = itertools.count()
    slices = sustain(lambda: None, 1e-9, read=lambda: Reading({}, {}, [], None), clock=lambda: float(next(ticks)))
    assert [part.answers for part in slices] == [1] * SLICES
    assert slices[0].joules is None and slices[0].celsius is None and slices[0].megahertz is None


def test_the_command_says_what_is_not_available(capsys):
    done = run("--size", "tiny", "--members", 1, "--tokens", 4, "--sustained", 0.3, "--json")
    assert done.returncode == 0, done.stderr
    facts = json.loads(done.stdout)
    assert len(facts["slices"]) == SLICES and facts["slowdown"] >= 1
    assert run("--size", "tiny", "--sustained", -1).returncode == 2
