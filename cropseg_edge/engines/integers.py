"""Whether this processor adds 8-bit products exactly, tried on one convolution of ONNX Runtime.

x86-64 without VNNI instructions (Intel before 2019, AMD before Zen 4) adds them in pairs in 16
bits, which saturates: 255 * 127 + 255 * 127 becomes 32767. Masks of INT8 graphs are then wrong.
"""

import base64
from functools import cache

import numpy as np

# QLinearConv of x uint8 [1, 32, 1, 1] with 32 weights of 127, its sum divided by 8192; opset 17.
CONVOLUTION = base64.b64decode(
    "CAg67gEKQAoBeAoDb25lCgR6ZXJvCgF3CgNvbmUKBm5vdWdodAoEc3RlcAoEemVybxIBeRoEY29udiILUUxpbmVhckNvbnYS"
    "BGludDgqLwgBCCAIAQgBEANCAXdKIH9/f39/f39/f39/f39/f39/f39/f39/f39/f39/f39/Kg0QAUIDb25lSgQAAIA/KgsQ"
    "AkIEemVyb0oBACoNEANCBm5vdWdodEoBACoOEAFCBHN0ZXBKBAAAAEZaGwoBeBIWChQIAhIQCgIIAQoCCCAKAggBCgIIAWIb"
    "CgF5EhYKFAgCEhAKAggBCgIIAQoCCAEKAggBQgQKABAR"
)
EXACT = round(32 * 255 * 127 / 8192)  # 127; 64 where pairs saturate


@cache
def int8_is_exact() -> bool:
    """Whether INT8 graphs compute here what they say. Takes some 10 ms, once a process."""
    import onnxruntime as ort

    session = ort.InferenceSession(CONVOLUTION, providers=["CPUExecutionProvider"])
    (sums,) = session.run(None, {"x": np.full((1, 32, 1, 1), 255, np.uint8)})
    return int(sums.item()) == EXACT
