"""What only an import can tell, each in a process of its own: `python -m ....probe NAME`.

An import may crash, hang or print; the parent (`System.probe`) reads the last line, JSON.
"""

import base64
import contextlib
import importlib
import json
import sys
from collections.abc import Callable
from importlib import metadata
from typing import Any

from cropseg_edge.doctor.cuda_driver import cuda

Answer = dict[str, Any]

# Conv(x [1, 1, 4, 4], w [1, 1, 3, 3]) -> y [1, 1, 2, 2], opset 17; made with onnx.helper.
ONE_NODE = base64.b64decode(
    "CAgSADpuCg8KAXgKAXcSAXkiBENvbnYSBGNvbnZaGwoBeBIWChQIARIQCgIIAQoCCAEKAggECgIIBFobCgF3EhYKFAgB"
    "EhAKAggBCgIIAQoCCAMKAggDYhsKAXkSFgoUCAESEAoCCAEKAggBCgIIAgoCCAJCBAoAEBE="
)


def numpy() -> Answer:
    """Version and place."""
    import numpy as np

    return {"version": np.__version__, "file": np.__file__}


def opencv() -> Answer:
    """Version, place, and which video inputs it was built with."""
    import cv2

    lines = [line.partition(":") for line in cv2.getBuildInformation().splitlines()]
    built = {key.strip().lower(): value.strip() for key, _, value in lines}
    return {
        "version": cv2.__version__,
        "file": cv2.__file__,
        "gstreamer": built.get("gstreamer", "").startswith("YES"),
        "v4l2": built.get("v4l/v4l2", "").startswith("YES"),
        "ffmpeg": built.get("ffmpeg", "").startswith("YES"),
    }


def simplejpeg() -> Answer:
    """Place of the decoder of JPEG, which has decoded one."""
    import numpy as np

    decoder = importlib.import_module("simplejpeg")
    size = decoder.decode_jpeg(decoder.encode_jpeg(np.zeros((16, 24, 3), np.uint8))).shape
    return {"version": metadata.version("simplejpeg"), "file": decoder.__file__, "size": list(size)}


def onnxruntime() -> Answer:
    """Version, the distributions that bring it and the providers that it was compiled with."""
    import onnxruntime as ort

    return {
        "version": ort.__version__,
        "distributions": sorted(_bringing_onnxruntime()),
        "providers": ort.get_available_providers(),
    }


def _bringing_onnxruntime() -> set[str]:
    """Distributions with its files: rivals. onnxruntime-extensions, for one, only adds to them."""
    named = ((item, (item.metadata["Name"] or "").lower()) for item in metadata.distributions())
    return {
        name
        for item, name in named
        if name.startswith("onnxruntime")
        and any(str(file) == "onnxruntime/__init__.py" for file in item.files or ())
    }


def provider(name: str) -> Answer:
    """Run one convolution on one provider of ONNX Runtime, without its fallback to the CPU."""
    import numpy as np
    import onnxruntime as ort

    options = ort.SessionOptions()
    options.log_severity_level = 4
    if name != "CPUExecutionProvider":
        options.add_session_config_entry("session.disable_cpu_ep_fallback", "1")
    session = ort.InferenceSession(ONE_NODE, options, providers=[name])
    if name not in session.get_providers():
        return {"error": f"ONNX Runtime took {session.get_providers()} in its place"}
    x, w = np.arange(16, dtype=np.float32).reshape(1, 1, 4, 4), np.ones((1, 1, 3, 3), np.float32)
    (y,) = session.run(None, {"x": x, "w": w})
    expected = [[45, 54], [81, 90]]
    if not np.allclose(y[0, 0], expected):
        return {"error": f"a convolution gave {y[0, 0].tolist()}, expected {expected}"}
    return {"ran": True}


def int8() -> Answer:
    """Whether this processor adds 8-bit products exactly."""
    from cropseg_edge.engines.integers import int8_is_exact

    return {"exact": int8_is_exact()}


def tensorrt() -> Answer:
    """Version and place."""
    trt = importlib.import_module("tensorrt")
    return {"version": trt.__version__, "file": trt.__file__}


def pycuda() -> Answer:
    """Version, and the device that it opens."""
    text = importlib.import_module("pycuda").VERSION_TEXT
    try:
        driver = importlib.import_module("pycuda.driver")
        driver.init()
        device = driver.Device(0)
        return {"version": text, "device": device.name()}
    except Exception as error:  # pycuda's own errors cannot be named before it is imported
        return {"version": text, "error": _one_line(error)}


def ros() -> Answer:
    """rclpy's place, the middleware, and whether our messages and node are there."""
    rclpy = importlib.import_module("rclpy")
    answer: Answer = {"file": rclpy.__file__}
    with contextlib.suppress(ImportError, AttributeError):
        implementation = importlib.import_module(
            "rclpy.utilities"
        ).get_rmw_implementation_identifier
        answer["rmw"] = implementation()
    for package in ("cropseg_msgs.msg", "cropseg_ros"):
        try:
            importlib.import_module(package)
            answer[package.partition(".")[0]] = True
        except ImportError:
            answer[package.partition(".")[0]] = False
    return answer


def fade() -> Answer:
    """Whether FADE's compiled library can be loaded."""
    from cropseg_edge.fade.compiled import library

    return {"compiled": library() is not None}


def cuda_fade() -> Answer:
    """Load FADE's CUDA kernels for the first GPU."""
    from cropseg_edge.fade.cuda import CudaFade

    driver = importlib.import_module("pycuda.driver")
    driver.init()
    context = driver.Device(0).retain_primary_context()
    context.push()
    try:
        CudaFade().close()
    finally:
        context.pop()
    return {"loaded": True}


def bundle() -> Answer:
    """Read the shipped bundle and check every hash."""
    from cropseg_edge.bundle import read_bundle
    from cropseg_edge.engines.tensorrt.known_issues import KNOWN_ISSUES

    checked = read_bundle()
    engines = {engine: checked.manifest.precisions(engine) for engine in checked.manifest.graphs}
    graph = checked.graph("tensorrt") if "tensorrt" in engines else b""
    named = {issue.operator for issue in KNOWN_ISSUES} - {""}
    return {
        "name": f"{checked.manifest.name} {checked.manifest.version}",
        "sha256": checked.sha256,
        "engines": {engine: list(precisions) for engine, precisions in engines.items()},
        "operators": sorted(name for name in named if name.encode() in graph),
    }


def engines() -> Answer:
    """Which engines of the shipped bundle this machine has, and whether they may be used here."""
    from cropseg_edge.bundle import read_bundle
    from cropseg_edge.engines.tensorrt.cache import default_cache
    from cropseg_edge.engines.tensorrt.open import read_accepted
    from cropseg_edge.engines.tensorrt.platform import load_platform
    from cropseg_edge.errors import EngineError

    checked, cache = read_bundle(), default_cache()
    found: dict[str, str] = {}
    platform = None
    with contextlib.suppress(EngineError):  # `tensorrt` and `pycuda` say why
        platform = load_platform()
    for precision in checked.manifest.precisions("tensorrt") if cache.folder else ():
        try:
            sidecar = cache.sidecar(checked, precision)
            if platform is not None:
                read_accepted(platform, checked, precision)
        except EngineError as error:
            if "not built" not in str(error):
                found[precision] = f"cannot be used: {error}"
            continue
        verdict = sidecar.verdict
        if verdict is None:
            found[precision] = "not tried"
        elif verdict.accepted:
            found[precision] = f"accepted, {verdict.latency_ms:.1f} ms a frame"
        else:
            found[precision] = f"quarantined ({verdict.reason})"
        found[precision] += f", TensorRT {sidecar.fingerprint.tensorrt}"
    return {"folder": str(cache.folder) if cache.folder else "", "engines": found}


PROBES: dict[str, Callable[..., Answer]] = {
    probe.__name__: probe
    for probe in (
        numpy,
        opencv,
        simplejpeg,
        onnxruntime,
        provider,
        int8,
        tensorrt,
        pycuda,
        cuda,
        ros,
        fade,
        cuda_fade,
        bundle,
        engines,
    )
}


def _one_line(error: BaseException) -> str:
    lines = str(error).strip().splitlines()
    return f"{type(error).__name__}: {lines[0][:300]}" if lines else type(error).__name__


def main() -> None:
    """Run the probe that the command line names and print its answer."""
    try:
        answer = PROBES[sys.argv[1]](*sys.argv[2:])
    except Exception as error:  # whatever an import raises is the answer
        answer = {"error": _one_line(error)}
    sys.stdout.write("\n" + json.dumps(answer) + "\n")


if __name__ == "__main__":
    main()
