"""Every attribute of TensorRT and pycuda that the code touches exists in every version meant.

The code is read, not run: an expression's text says of which class it is. `symbols.py` made the
lists of TensorRT 10.3 and 11.4; TensorRT-RTX is asked itself where it is installed.
"""

import ast
import importlib.util
import json
import subprocess
import sys
from functools import cache
from pathlib import Path

import pytest

from tests.engines.tensorrt.symbols import LIST

FOLDER = Path(__file__).parents[3] / "cropseg_edge" / "engines" / "tensorrt"
SYMBOLS = json.loads(Path(__file__).with_name("symbols.json").read_text())
# file -> text of an expression -> class; "" is the module itself
CLASSES = {
    "builder.py": {
        "trt": "",
        "builder": "Builder",
        "parsed.builder": "Builder",
        "parser": "OnnxParser",
        "e": "ParserError",
        "config": "IBuilderConfig",
        "pools": "MemoryPoolType",
        "trt.ILogger": "ILogger",
        "cache": "ITimingCache",
    },
    "engine.py": {
        "trt": "",
        "self._runtime": "Runtime",
        "self._engine": "ICudaEngine",
        "engine": "ICudaEngine",
        "self._context": "IExecutionContext",
    },
}
OVERRIDDEN = {
    "ILogger": ["log"],
    "IProgressMonitor": ["phase_start", "step_complete", "phase_finish"],
}
# Looked up with getattr, for a version may lack them.
OPTIONAL = {"IProgressMonitor"}


def touched(file: Path, expressions: dict[str, str]) -> set[tuple[str, str]]:
    """(class, attribute) of every access in a file."""
    return {
        (expressions[ast.unparse(node.value)], node.attr)
        for node in ast.walk(ast.parse(file.read_text()))
        if isinstance(node, ast.Attribute) and ast.unparse(node.value) in expressions
    } - {("", "__version__"), ("ILogger", "__init__")}


def all_touched() -> list[tuple[str, str]]:
    found = {item for name, map_ in CLASSES.items() for item in touched(FOLDER / name, map_)}
    found |= {(class_, name) for class_, names in OVERRIDDEN.items() for name in names}
    return sorted(found)


@cache
def rtx() -> dict[str, list[str]]:
    if importlib.util.find_spec("tensorrt_rtx") is None:
        pytest.skip("pip install tensorrt-rtx")
    code = LIST.replace("tensorrt_bindings.tensorrt", "tensorrt_rtx")
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, check=True)
    return dict(json.loads(result.stdout))


@pytest.mark.parametrize("version", ["10.3.0", "11.4.0.106", "rtx"])
def test_tensorrt_has_what_is_used(version: str) -> None:
    symbols = rtx() if version == "rtx" else SYMBOLS[version]
    missing = [
        f"{class_ or 'tensorrt'}.{name}"
        for class_, name in all_touched()
        if name not in (symbols.get(class_, []) if class_ else symbols)
        and class_ not in OPTIONAL - set(symbols)
    ]
    assert missing == []


def test_the_reading_of_the_code_finds_what_it_should() -> None:
    found = all_touched()
    assert ("IExecutionContext", "execute_async_v3") in found
    assert ("ICudaEngine", "device_memory_size_v2") in found
    assert ("MemoryPoolType", "TACTIC_DRAM") in found
    assert len(found) > 30
    assert "execute_async_v4" not in SYMBOLS["10.3.0"]["IExecutionContext"]


def test_no_other_file_talks_to_tensorrt() -> None:
    for file in FOLDER.glob("*.py"):
        if file.name not in CLASSES:
            assert touched(file, {"trt": "", "platform.trt": ""}) == set(), file.name


@pytest.mark.parametrize("flag", ["FP16", "INT8", "OBEY_PRECISION_CONSTRAINTS"])
def test_the_lists_tell_the_versions_apart(flag: str) -> None:
    assert flag in SYMBOLS["10.3.0"]["BuilderFlag"]
    assert flag not in SYMBOLS["11.4.0.106"]["BuilderFlag"]


def test_pycuda_has_what_is_used() -> None:
    expressions = {
        "cuda", "self._cuda", "self._stream", "self._context", "cuda.Device", "cuda.Device(0)",
        "cuda.Context", "cuda.device_attribute", "cuda.host_alloc_flags", "device", "begin",
        "self._host.base", "self._device",
    }  # fmt: skip
    nothing: set[str] = set()
    not_pycuda = {
        "device.py": nothing,
        "buffers.py": nothing,
        "path.py": nothing,
        "engine.py": {"self._context"},
    }
    used = {
        name
        for file in not_pycuda
        for _, name in touched(FOLDER / file, dict.fromkeys(expressions - not_pycuda[file], ""))
    }
    assert {"mem_alloc", "get_device_pointer", "time_till", "retain_primary_context"} <= used
    assert sorted(used - set(SYMBOLS["pycuda"]["names"])) == []
