"""Power mode, clocks and temperatures, read from sysfs: what decides how fast the board is."""

import re
from typing import Any

from cropseg_edge.doctor.finding import Finding, Status
from cropseg_edge.doctor.system import System

HOT_C = 85.0  # Orin slows its clocks down from about 90 to 99 degrees on, by zone
_CPUS = "/sys/devices/system/cpu/cpu[0-9]*/cpufreq"


def power_mode(system: System) -> Finding:
    """The mode that nvpmodel set, and whether it is the unlimited one (MAXN)."""
    text = system.read("/etc/nvpmodel.conf") or ""
    modes = {
        int(number): name
        for number, name in re.findall(r"^<\s*POWER_MODEL\s+ID=(\d+)\s+NAME=(\S+)", text, re.M)
    }
    name = mode_name(system, modes)
    data: dict[str, Any] = {"mode": name, "modes": modes}
    if not name:
        if not modes:
            return Finding("power mode", Status.ABSENT, "no nvpmodel", data=data)
        return Finding(
            "power mode", Status.WARN, "unknown", "sudo nvpmodel -q   # tells the mode", data=data
        )
    fastest = [number for number, mode in modes.items() if mode.upper().startswith("MAXN")]
    if name.upper().startswith("MAXN") or not fastest:
        return Finding("power mode", Status.OK, name, data=data)
    best = max(fastest, key=lambda number: len(modes[number]))  # MAXN_SUPER rather than MAXN
    return Finding(
        "power mode",
        Status.WARN,
        f"{name}; {modes[best]} is faster where supply and cooling allow it",
        f"sudo nvpmodel -m {best}   # may ask to restart",
        data=data,
    )


def mode_name(system: System, modes: dict[int, str]) -> str:
    """The mode's name, from `nvpmodel -q` or the file in which it keeps the number."""
    answer = system.run("nvpmodel", "-q") or ""
    if found := re.search(r"NV Power Mode:\s*(\S+)", answer):
        return found[1]
    kept = re.search(r"pmode:(\d+)", system.read("/var/lib/nvpmodel/status") or "")
    if kept is None:
        return ""
    return modes.get(int(kept[1]), f"mode {int(kept[1])}")


def clocks(system: System) -> Finding:
    """Frequencies of CPU and GPU, and whether jetson_clocks holds them at their maximum."""
    data = read_clocks(system)
    if not data:
        return Finding("clocks", Status.ABSENT, "this system does not show its clocks")
    parts = [
        f"{name} {clock['mhz']:.0f} of {clock['max_mhz']:.0f} MHz" for name, clock in data.items()
    ]
    gpu = data.get("gpu")
    if gpu is None:
        return Finding("clocks", Status.OK, ", ".join(parts), data=data)
    held = all(clock["min_mhz"] == clock["max_mhz"] for clock in data.values())
    state = "held at the maximum (jetson_clocks)" if held else "scaled by load"
    found = f"{', '.join(parts)}; {state}"
    remedy = "" if held else "for steady times: sudo jetson_clocks   # until the next start"
    return Finding("clocks", Status.OK, found, remedy, data={**data, "held": held})


def read_clocks(system: System) -> dict[str, dict[str, float]]:
    """MHz now, lowest and highest allowed, of `cpu` (the fastest core) and `gpu`."""
    found: dict[str, dict[str, float]] = {}
    for folder in system.glob(_CPUS):
        names = ("scaling_cur_freq", "scaling_min_freq", "scaling_max_freq")
        clock = _clock(system, folder, names, 1e3)  # kHz
        if clock and clock["mhz"] > found.get("cpu", {"mhz": -1.0})["mhz"]:
            found["cpu"] = clock
    for folder in system.glob("/sys/class/devfreq/*"):
        # 17000000.gpu on Orin, gpu-gpc-0 on Thor, 17000000.ga10b on JetPack 5
        if re.search(r"gpu-gpc|\.gpu$|\.ga10b$|\.gv11b$", folder):
            clock = _clock(system, folder, ("cur_freq", "min_freq", "max_freq"), 1e6)  # Hz
            if clock:
                found["gpu"] = clock
    return found


def _clock(
    system: System, folder: str, names: tuple[str, ...], unit: float
) -> dict[str, float] | None:
    now, low, high = (system.number(f"{folder}/{name}") for name in names)
    if now is None or low is None or high is None:
        return None
    return {"mhz": now / unit, "min_mhz": low / unit, "max_mhz": high / unit}


def thermal(system: System) -> Finding:
    """The hottest zone, and what the board has counted of low voltage and too much current."""
    zones = temperatures(system)
    counts = over_current(system)
    data: dict[str, Any] = {"celsius": zones, "over_current": counts}
    if not zones:
        return Finding("thermal", Status.ABSENT, "no thermal zone can be read", data=data)
    zone, hottest = max(zones.items(), key=lambda item: item[1])
    found = f"{hottest:.0f} °C ({zone})"
    if counts:
        text = ", ".join(f"{name} {count}" for name, count in counts.items())
        found += f"; low voltage or over-current since start: {text}"
    if hottest >= HOT_C:
        remedy = "check fan and heat sink; the board slows down when it is hot"
        return Finding("thermal", Status.WARN, found, remedy, data=data)
    # oc3 counts short peaks, which are common in MAXN; oc1 and oc2 are the supply's.
    if counts.get("oc1") or counts.get("oc2"):
        remedy = "use the supply that came with the board, a short thick cable, or a lower mode"
        return Finding("thermal", Status.WARN, found, remedy, data=data)
    return Finding("thermal", Status.OK, found, data=data)


def temperatures(system: System) -> dict[str, float]:
    """Degrees Celsius by zone; zones of parts that are switched off are left out."""
    found = {}
    for folder in system.glob("/sys/class/thermal/thermal_zone*"):
        millidegrees = system.number(f"{folder}/temp")
        if millidegrees is not None and -40_000 < millidegrees < 150_000 and millidegrees != 0:
            name = system.read(f"{folder}/type") or folder.rpartition("/")[2]
            found[name] = millidegrees / 1000
    return found


def over_current(system: System) -> dict[str, int]:
    """Events since the start: oc1 low voltage, oc2 average and oc3 short peaks of current."""
    found = {}
    for path in system.glob("/sys/class/hwmon/hwmon*/oc[0-9]_event_cnt"):
        count = system.number(path)
        if count is not None:
            found[path.rpartition("/")[2].partition("_")[0]] = count
    return found


def watts(system: System) -> dict[str, float]:
    """Watts by rail, from every INA sensor: voltage times current, or power where it is given.

    On Orin Nano and NX the whole module is VDD_IN; on Thor the whole kit is the sensor ina238.
    """
    found = {}
    for folder in system.glob("/sys/class/hwmon/hwmon*"):
        sensor = system.read(f"{folder}/name") or ""
        if not sensor.startswith("ina"):
            continue
        for path in system.glob(f"{folder}/curr*_input"):
            channel = path.rpartition("/curr")[2].removesuffix("_input")
            milliamperes, millivolts = (
                system.number(path),
                system.number(f"{folder}/in{channel}_input"),
            )
            label = system.read(f"{folder}/in{channel}_label") or f"{sensor}_{channel}"
            if milliamperes is not None and millivolts is not None and label != "NC":
                found[label] = milliamperes * millivolts / 1e6
        microwatts = system.number(f"{folder}/power1_input")
        if microwatts is not None:
            found[sensor] = microwatts / 1e6
    return found
