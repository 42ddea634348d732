"""The stages around the engine on an NVIDIA GPU: preprocessing, FADE, decoding; device to device.

How an engine uses it, with everything on one pycuda stream and nothing allocated per frame:

    fade = CudaFade()                                   # a CUDA context must be current
    fade.clear(status, stream)                          # status: 4 bytes of device memory
    fade.preprocess(image, H, W, spec, fit, network_input, stream=stream)
    ...                                                 # the engine runs on the same stream
    inputs = DeviceInputs(logits, kernels_high, kernels_low, guide, gate)     # addresses, as int
    fade.probabilities(inputs, 3, h, w, grid, status, stream, side=s)     # [3, 2sh, 2sw]
    fade.decode(grid, 3, 2 * s * h, 2 * s * w, affine, H, W, labels, confidence, status, stream)
    ...                                                 # copy labels, confidence, status; wait
    faults = StageStatus(int(status_on_the_host))

Kernels ship compiled (`binaries/`); neither nvcc nor a compiler is needed where they run. pycuda
is imported when a `CudaFade` is made, not before. Run on an H200, not yet on a Jetson; the tests
run the same kernel source and the same launch code on the host.
"""

from cropseg_edge.fade.cuda.contract import DeviceInputs, StageStatus
from cropseg_edge.fade.cuda.stage import CudaFade

__all__ = ["CudaFade", "DeviceInputs", "StageStatus"]
