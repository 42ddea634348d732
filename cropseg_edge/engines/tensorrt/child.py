"""The process that builds: `python -m cropseg_edge.engines.tensorrt.child MODULE FOLDER`.

FOLDER holds graph.onnx, settings.json and perhaps timing.cache; it gets engine.plan and
timing.cache. Every line on stdout is a JSON object: {"phase", "done", "of"} on the way, {"error",
"kind"} at the end of a build that failed. TensorRT may write other lines.
"""

import ctypes
import importlib
import json
import signal
import sys
from pathlib import Path
from typing import Any

from cropseg_edge.engines.tensorrt.builder import build
from cropseg_edge.engines.tensorrt.settings import BuildSettings
from cropseg_edge.errors import BundleError, EngineError

_PR_SET_PDEATHSIG = 1


def main(module: str, folder: Path) -> int:
    """Build; returns the exit code: 0 if engine.plan is there, 1 after an "error" line."""
    end_with_the_parent()
    timing = folder / "timing.cache"
    try:
        built = build(
            importlib.import_module(module),
            (folder / "graph.onnx").read_bytes(),
            BuildSettings.model_validate_json((folder / "settings.json").read_bytes()),
            timing.read_bytes() if timing.exists() else None,
            _report,
        )
        (folder / "engine.plan").write_bytes(built.plan)
        timing.write_bytes(built.timing_cache)
    except (BundleError, EngineError, ImportError, MemoryError, OSError) as error:
        _say({"error": str(error) or type(error).__name__, "kind": type(error).__name__})
        return 1
    return 0


def _report(phase: str, done: int, of: int) -> None:
    _say({"phase": phase, "done": done, "of": of})


def _say(message: dict[str, Any]) -> None:
    sys.stdout.write(json.dumps(message) + "\n")
    sys.stdout.flush()


def end_with_the_parent() -> None:
    """Be killed with the parent: without it this process serves nobody and holds memory."""
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1], Path(sys.argv[2])))
