"""Writes symbols.json: what the Python bindings of TensorRT 10.3 and 11.4 and pycuda have.

    pip download --no-deps tensorrt-cu12-bindings==10.3.0
    pip download --no-deps tensorrt-cu13-bindings==11.4.0.106
    pip download --no-deps --no-binary :all: pycuda==2026.1
    python tests/engines/tensorrt/symbols.py tensorrt_*.whl pycuda-*.tar.gz

The bindings need TensorRT's libraries, which are not on PyPI. They use eight C functions of them,
so empty libraries with those functions are enough to import them and to list their names. Needs a
C compiler, and wheels for the Python that runs this. pycuda needs a driver to be imported: its
names are read from its source.
"""

import json
import re
import subprocess
import sys
import tarfile
import tempfile
import zipfile
from pathlib import Path

STUB = """
#define F(name) void* name(void) { return 0; }
F(createInferBuilder_INTERNAL) F(createInferRefitter_INTERNAL) F(createInferRuntime_INTERNAL)
F(createNvOnnxParserRefitter_INTERNAL) F(createNvOnnxParser_INTERNAL) F(getBuilderPluginRegistry)
F(getNvOnnxParserVersion) F(getPluginRegistry) F(initLibNvInferPlugins)
"""
LIST = """
import json, tensorrt_bindings.tensorrt as trt
names = {name: getattr(trt, name) for name in dir(trt) if not name.startswith("_")}
print(json.dumps({
    name: [x for x in dir(value) if not x.startswith("_")] if isinstance(value, type) else []
    for name, value in names.items()
}))
"""


def symbols(wheel: Path) -> dict[str, list[str]]:
    """Names in the module, each with its attributes if it is a class."""
    major = wheel.name.split("-")[1].split(".")[0]
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        zipfile.ZipFile(wheel).extractall(folder)
        (folder / "stub.c").write_text(STUB)
        for library in ("nvinfer", "nvonnxparser", "nvinfer_plugin"):
            file = f"lib{library}.so.{major}"
            command = ["cc", "-shared", "-fPIC", f"-Wl,-soname,{file}", "-o", folder / file]
            subprocess.run([*command, folder / "stub.c"], check=True)
        (folder / "tensorrt_bindings" / "__init__.py").write_text("")  # it wants all of TensorRT
        output = subprocess.run(
            [sys.executable, "-c", LIST],
            env={"LD_LIBRARY_PATH": name, "PYTHONPATH": name},
            check=True,
            capture_output=True,
        ).stdout
    return dict(json.loads(output))


def pycuda_symbols(archive: Path) -> dict[str, list[str]]:
    """Names that the source of pycuda.driver defines, all in one list."""
    with tarfile.open(archive) as tar:
        texts = [
            tar.extractfile(member).read().decode()
            for member in tar.getmembers()
            if member.name.endswith(("src/wrapper/wrap_cudadrv.cpp", "pycuda/driver.py"))
        ]
    macros = r"\b(?:DEF_SIMPLE_METHOD|DEF_SIMPLE_FUNCTION|DECLARE_EXC|def)\s*\(?\s*"
    names = {name for text in texts for name in re.findall(macros + r'"?(\w+)', text)}
    names |= {name for text in texts for name in re.findall(r'"(\w+)"', text)}
    return {"names": sorted(names)}


if __name__ == "__main__":
    found = {}
    for path in map(Path, sys.argv[1:]):
        if path.name.startswith("pycuda"):
            found["pycuda"] = pycuda_symbols(path)
        else:
            found[path.name.split("-")[1]] = symbols(path)
    lines = [
        f'"{package}": {{\n'
        + ",\n".join(f'  "{name}": {json.dumps(found[package][name])}' for name in found[package])
        + "\n}"
        for package in found
    ]
    Path(__file__).with_name("symbols.json").write_text("{\n" + ",\n".join(lines) + "\n}\n")
