"""Refuse ONNX graphs that point to files outside the bundle, before any engine parses them.

An ONNX tensor may live in another file (`external_data`); an engine given the graph as bytes would
look for it relative to the working directory. The scan walks the protobuf wire format along the
few fields that can lead to a tensor (field numbers from onnx.proto3), so it needs no onnx package.
"""

from cropseg_edge.errors import BundleError

_VARINT, _FIXED64, _BYTES, _FIXED32 = 0, 1, 2, 5
_MAX_DEPTH = 24
_EXTERNAL_DATA, _DATA_LOCATION = 13, 14

_CHILDREN: dict[str, dict[int, str]] = {
    "model": {7: "graph", 20: "training", 25: "function"},
    "training": {1: "graph", 2: "graph"},
    "function": {7: "node", 11: "attribute"},
    "graph": {1: "node", 5: "tensor", 15: "sparse"},
    "node": {5: "attribute"},
    "attribute": {5: "tensor", 6: "graph", 10: "tensor", 11: "graph", 22: "sparse", 23: "sparse"},
    "sparse": {1: "tensor", 2: "tensor"},
    "tensor": {},
}


def refuse_external_data(graph: bytes, member: str) -> None:
    """Check that an ONNX graph holds all of its data itself.

    Raises:
        BundleError: the graph refers to external data, or is not an ONNX protobuf.
    """
    try:
        _walk(memoryview(graph), "model", 0)
    except _ExternalDataError:
        raise BundleError(
            f"{member} keeps tensors in a file outside the bundle; export it with all data inside"
        ) from None
    except (IndexError, ValueError) as error:
        raise BundleError(f"{member} is not a readable ONNX graph: {error}") from error


class _ExternalDataError(Exception):
    pass


def _varint(data: memoryview, at: int) -> tuple[int, int]:
    value = 0
    for shift in range(0, 70, 7):
        byte = data[at]
        at += 1
        value |= (byte & 0x7F) << shift
        if byte < 0x80:
            return value, at
    raise ValueError("overlong number")


def _walk(data: memoryview, kind: str, depth: int) -> None:
    if depth > _MAX_DEPTH:
        raise ValueError("nested too deeply")
    children, at = _CHILDREN[kind], 0
    while at < len(data):
        key, at = _varint(data, at)
        field, wire = key >> 3, key & 7
        if field == 0:
            raise ValueError("field number 0")
        if wire == _VARINT:
            value, at = _varint(data, at)
            if kind == "tensor" and field == _DATA_LOCATION and value != 0:
                raise _ExternalDataError
        elif wire == _BYTES:
            size, at = _varint(data, at)
            if size > len(data) - at:
                raise ValueError("truncated")
            if kind == "tensor" and field == _EXTERNAL_DATA:
                raise _ExternalDataError
            if field in children:
                _walk(data[at : at + size], children[field], depth + 1)
            at += size
        elif wire in (_FIXED64, _FIXED32):
            at += 8 if wire == _FIXED64 else 4
            if at > len(data):
                raise ValueError("truncated")
        else:
            raise ValueError(f"wire type {wire}")
