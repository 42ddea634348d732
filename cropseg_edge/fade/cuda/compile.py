"""Compiles the CUDA kernels ahead of time: source in, `binaries/` and its record out.

python -m cropseg_edge.fade.cuda.compile            # what is shipped, all of it
python -m cropseg_edge.fade.cuda.compile sm_120     # one more architecture, by the machine's nvcc
python -m cropseg_edge.fade.cuda.compile --report   # registers and memory of every kernel
"""

import argparse
import gzip
import hashlib
import json
from collections.abc import Callable
from pathlib import Path

from cropseg_edge.errors import EngineError
from cropseg_edge.fade.cuda.driver import BINARIES, RECORD
from cropseg_edge.fade.cuda.toolchain import SOURCE, Compiled, nvcc, nvrtc, usage

# Orin (JetPack 6 and 7), Hopper test GPUs, Thor; PTX that every driver since CUDA 12.5 compiles.
SHIPPED: dict[str, Callable[[str], Compiled]] = {
    "sm_87": nvrtc,
    "sm_90": nvrtc,
    "sm_110": nvcc,
    "compute_75": nvrtc,
}


def source_sha256() -> str:
    """Of the kernels' source: fade.cu and every header beside it."""
    digest = hashlib.sha256()
    for path in [SOURCE, *sorted(SOURCE.parent.glob("*.h"))]:
        digest.update(path.name.encode() + b"\0" + path.read_bytes() + b"\0")
    return digest.hexdigest()


def compile_target(target: str, folder: Path = BINARIES) -> Compiled:
    """Write `folder/<target>.gz`, and enter it in the record.

    Raises:
        EngineError: the compiler is missing or refuses.
    """
    compiled = SHIPPED.get(target, nvcc)(target)
    packed = gzip.compress(compiled.code, mtime=0)
    folder.mkdir(exist_ok=True)
    (folder / f"{target}.gz").write_bytes(packed)
    record = folder / RECORD
    entries = json.loads(record.read_text("utf-8")) if record.exists() else {}
    entries[target] = {
        "source_sha256": source_sha256(),
        "sha256": hashlib.sha256(packed).hexdigest(),
        "toolchain": compiled.toolchain,
    }
    record.write_text(json.dumps(entries, indent=1, sort_keys=True) + "\n", "utf-8")
    return compiled


def main() -> None:
    """The command line."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("targets", nargs="*", default=list(SHIPPED), help="as sm_87, compute_75")
    parser.add_argument("--report", action="store_true", help="print each kernel's figures")
    arguments = parser.parse_args()
    try:
        for target in arguments.targets:
            compiled = compile_target(target)
            print(f"{target}: {len(compiled.code)} bytes, {compiled.toolchain}")
            if arguments.report:
                for name, figures in sorted(usage(compiled.log).items()):
                    print(
                        f"  {name:24} {figures.registers:4} registers {figures.shared:6} bytes "
                        f"shared {figures.spilled:4} spilled"
                    )
    except EngineError as error:
        parser.exit(2, f"{error}\n")


if __name__ == "__main__":
    main()
