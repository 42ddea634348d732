"""Build of the one compiled part: letterbox, FADE, mask decoding, operators of ONNX Runtime.

It is a plain shared library. Without a C++ compiler the build goes on; OpenCV, NumPy and ONNX
Runtime's own operators then do the work.
"""

from setuptools import Extension, setup

setup(
    ext_modules=[
        Extension(
            "cropseg_edge.fade._cpu",
            sources=[
                "cropseg_edge/fade/cpu.cpp",
                "cropseg_edge/fade/frame.cpp",
                "cropseg_edge/engines/operators/register.cpp",
                "cropseg_edge/engines/operators/attention.cpp",
                "cropseg_edge/engines/operators/deformable_attention.cpp",
                "cropseg_edge/engines/operators/depthwise_convolution.cpp",
            ],
            depends=[
                "cropseg_edge/fade/approximate.h",
                "cropseg_edge/fade/processors.h",
                "cropseg_edge/engines/operators/onnxruntime_abi.h",
                "cropseg_edge/engines/operators/operator.h",
            ],
            language="c++",
            extra_compile_args=[
                *("-O3", "-std=c++17", "-fno-math-errno", "-fno-trapping-math"),
                "-Wno-psabi",  # vectors are passed between inlined functions only
            ],
            optional=True,
        )
    ]
)
