"""The process that tries an engine: `python -m cropseg_edge.engines.tensorrt.trial`.

Its arguments are a bundle, the bundle's hash and the precision; the engine comes on stdin. The last
line on stdout is a JSON object: {"accepted", "reason", "iou", "latency_ms"} where the engine was
loaded and run, {"error", "kind"} where it was not.
"""

import json
import os
import sys
from pathlib import Path
from typing import Any

from cropseg_edge.bundle import read_bundle
from cropseg_edge.engines.acceptance import try_out
from cropseg_edge.engines.tensorrt.child import end_with_the_parent
from cropseg_edge.engines.tensorrt.path import TensorRtPath
from cropseg_edge.engines.tensorrt.platform import load_platform
from cropseg_edge.errors import (
    BundleError,
    CropSegError,
    DeviceMemoryError,
    EngineError,
    ParityError,
)


def main(bundle: Path, sha256: str, precision: str) -> dict[str, Any]:
    """Run the golden frames; returns what came out, as above.

    Raises:
        BundleError: the bundle cannot be used, or is not the one with this hash any more.
        EngineError: the engine cannot be loaded, or the memory ran out.
    """
    end_with_the_parent()
    checked = read_bundle(bundle)
    if checked.sha256 != sha256:
        raise BundleError(f"{bundle} was replaced meanwhile; start again")
    path = TensorRtPath(load_platform(), checked, precision, sys.stdin.buffer.read())
    try:
        trial = try_out(checked, path)
    except DeviceMemoryError:
        raise
    except (ParityError, EngineError) as error:
        return {"accepted": False, "reason": str(error), "iou": 0.0, "latency_ms": 0.0}
    finally:
        path.close()
    iou, latency_ms = float(trial.iou), float(trial.latency_ms)
    return {"accepted": True, "reason": "", "iou": iou, "latency_ms": latency_ms}


if __name__ == "__main__":
    try:
        outcome = main(Path(sys.argv[1]), *sys.argv[2:])
    except (CropSegError, OSError, MemoryError) as error:
        outcome = {"error": str(error) or type(error).__name__, "kind": type(error).__name__}
    sys.stdout.write("\n" + json.dumps(outcome) + "\n")
    sys.stdout.flush()
    os._exit(0)  # what libraries do and say at their end is no part of the trial
