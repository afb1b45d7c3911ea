#!/usr/bin/env python3
"""Writes the operator tests of PyPI's `onnx` package as folders, in the form of Debian's libonnx-testdata.

    tools/onnx_cases.py DIR

DIR/node/NAME/model.onnx and DIR/node/NAME/test_data_set_0/{input,output}_N.pb: what `build/unit/engine_ops
--suite DIR` reads. The package brings the tests as code, so they are made here.
"""
import pathlib
import sys

from onnx import TensorProto, numpy_helper
from onnx.backend.test.case.node import collect_testcases


def proto_of(value, info):
    """One input or output in the message that its type asks for."""
    if isinstance(value, TensorProto):
        return value
    kind = info.type.WhichOneof("value")
    make = {
        "map_type": numpy_helper.from_dict,
        "sequence_type": numpy_helper.from_list,
        "optional_type": numpy_helper.from_optional,
    }.get(kind, numpy_helper.from_array)
    return make(value, info.name)


def write(case, folder):
    data = folder / "test_data_set_0"
    data.mkdir(parents=True, exist_ok=True)
    (folder / "model.onnx").write_bytes(case.model.SerializeToString())
    inputs, outputs = case.data_sets[0]
    for name, values, infos in (
        ("input", inputs, case.model.graph.input),
        ("output", outputs, case.model.graph.output),
    ):
        for i, (value, info) in enumerate(zip(values, infos)):
            (data / f"{name}_{i}.pb").write_bytes(proto_of(value, info).SerializeToString())


def main():
    if len(sys.argv) != 2:
        sys.exit(__doc__)
    cases = [c for c in collect_testcases(None) if c.data_sets]
    for case in cases:
        write(case, pathlib.Path(sys.argv[1]) / "node" / case.name)
    print(f"{len(cases)} operator tests in {sys.argv[1]}")


main()
