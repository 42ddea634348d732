"""cropseg_edge: a camera frame goes in, a crop mask that can be trusted comes out."""

import os

__version__ = "0.1.0"

# From 1.29 on ONNX Runtime keeps a device id and sends usage data, unless this is set before its
# import. https://github.com/microsoft/onnxruntime/pull/27379
os.environ.setdefault("ORT_DISABLE_TELEMETRY", "1")
