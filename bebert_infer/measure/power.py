"""Energy, temperature and clock of this machine, where it can tell: Linux's sysfs, and the Raspberry Pi's firmware.

    energy        /sys/class/powercap/intel-rapl:N/energy_uj    microjoules of one package, wraps at max_energy_range_uj
    temperature   /sys/class/thermal/thermal_zone*/temp         thousandths of a degree Celsius
    clock         /sys/devices/system/cpu/cpufreq/policy*/scaling_cur_freq      kHz
    throttling    vcgencmd get_throttled                        bits, see THROTTLED

Most virtual machines show none of these, and reading energy often needs root: what is not there is None or empty, never
a guess.
"""

import shutil
import subprocess
from dataclasses import dataclass
from pathlib import Path

SYS = Path("/sys")
# Raspberry Pi documentation, "get_throttled"; the same bits from 16 on say that it has happened since start-up.
THROTTLED = {0: "under-voltage", 1: "frequency capped", 2: "throttled", 3: "soft temperature limit"}


@dataclass(frozen=True)
class Reading:
    """What the machine says at one moment.

    microjoules : energy counter of each package by name, empty if none can be read
    celsius     : temperature of each zone by name;  megahertz : clock of each policy, in their order
    throttled   : what slows the processor down right now; None if nothing can say
    """

    microjoules: dict[str, int]
    celsius: dict[str, float]
    megahertz: list[float]
    throttled: list[str] | None


def read_machine(sys: Path = SYS) -> Reading:
    """Everything that can be read now."""
    return Reading(
        microjoules=read_energy(sys).microjoules,
        celsius=_temperatures(sys),
        megahertz=[
            value / 1000
            for policy in sorted((sys / "devices/system/cpu/cpufreq").glob("policy*"))
            if (value := _number(policy / "scaling_cur_freq")) is not None
        ],
        throttled=_throttled(),
    )


def read_energy(sys: Path = SYS) -> Reading:
    """Energy counters alone, which is quick enough to be read between calls."""
    counters = {zone.name: value for zone in _packages(sys) if (value := _number(zone / "energy_uj")) is not None}
    return Reading(counters, {}, [], None)


def joules_between(before: Reading, after: Reading, sys: Path = SYS) -> float | None:
    """Energy of all packages between two readings, in joules; None where there is no counter.

    A counter that is lower than before has wrapped once; between two readings there must be less than a whole turn,
    which is minutes at full load.
    """
    if not before.microjoules or before.microjoules.keys() != after.microjoules.keys():
        return None
    total = 0
    for name, start in before.microjoules.items():
        used = after.microjoules[name] - start
        if used < 0:
            turn = _number(sys / "class/powercap" / name / "max_energy_range_uj")
            if turn is None:
                return None
            used += turn
        total += used
    return total / 1e6


def _packages(sys: Path) -> list[Path]:
    """RAPL zones of whole packages: intel-rapl:0, intel-rapl:1; their parts have a second number."""
    return sorted(zone for zone in (sys / "class/powercap").glob("intel-rapl:*") if zone.name.count(":") == 1)


def _temperatures(sys: Path) -> dict[str, float]:
    found = {}
    for zone in sorted((sys / "class/thermal").glob("thermal_zone*")):
        value, kind = _number(zone / "temp"), _text(zone / "type")
        if value is not None:
            found[f"{zone.name} {kind}" if kind else zone.name] = value / 1000
    return found


def _throttled() -> list[str] | None:
    """Reasons of a Raspberry Pi, by its own tool; None on other machines."""
    command = shutil.which("vcgencmd")
    if command is None:
        return None
    try:
        done = subprocess.run([command, "get_throttled"], capture_output=True, text=True, timeout=5)
        bits = int(done.stdout.strip().partition("=")[2], 0)
    except (OSError, ValueError, subprocess.TimeoutExpired):
        return None
    return [reason for bit, reason in THROTTLED.items() if bits >> bit & 1]


def _text(path: Path) -> str | None:
    try:
        return path.read_text("ascii").strip()
    except (OSError, UnicodeDecodeError):
        return None


def _number(path: Path) -> int | None:
    text = _text(path)
    try:
        return None if text is None else int(text)
    except ValueError:
        return None
