"""Build of the one compiled part: FADE and mask decoding for the CPU, as a plain shared library.

Without a C++ compiler the build goes on and `cropseg_edge.fade` falls back to NumPy.
"""

from setuptools import Extension, setup

setup(
    ext_modules=[
        Extension(
            "cropseg_edge.fade._cpu",
            sources=["cropseg_edge/fade/cpu.cpp"],
            language="c++",
            extra_compile_args=["-O3", "-std=c++17", "-fno-math-errno", "-fno-trapping-math"],
            optional=True,
        )
    ]
)
