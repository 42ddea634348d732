"""On what was measured: the board, its software, and the state that decides its speed."""

import os
from typing import Any

from cropseg_edge.doctor import board, power
from cropseg_edge.doctor.system import System


def machine(system: System) -> dict[str, Any]:
    """What does not change while it is measured."""
    jetpack = board.jetpack(system)
    mode = power.power_mode(system)
    return {
        "board": board.board(system).data["model"],
        "jetpack": jetpack.data.get("jetpack"),
        "l4t": jetpack.data.get("l4t"),
        "cpus": len(os.sched_getaffinity(0))
        if hasattr(os, "sched_getaffinity")
        else os.cpu_count(),
        "power_mode": mode.data["mode"] or None,
    }


def state(system: System) -> dict[str, Any]:
    """What may change: load, clocks in MHz, degrees Celsius, over-current events."""
    load = (system.read("/proc/loadavg") or "").partition(" ")[0]
    return {
        "load": float(load) if load else None,  # programs that ran or waited, over a minute
        "clocks": power.read_clocks(system),
        "celsius": power.temperatures(system),
        "over_current": power.over_current(system),
    }
