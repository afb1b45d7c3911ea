#!/usr/bin/env python3
"""One model in PyPI's onnxruntime, one thread, as `build/bench/engine --one` has it in ours; for a Python that has both
numpy and onnxruntime.

    theirs.py inputs FOLDER FILE SHAPES   writes FOLDER/K.bin for each of the shapes (JSON), random; whole numbers below 100
    theirs.py run SECONDS FILE FOLDER SHAPES
"""
import json
import pathlib
import sys
import time

import numpy
import onnxruntime

NAMES = {"tensor(float)": "float32", "tensor(int64)": "int64", "tensor(int32)": "int32"}
SAMPLE_RATE = 16000  # the one scalar among the models' inputs


def session(file):
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = options.inter_op_num_threads = 1
    return onnxruntime.InferenceSession(file, options, providers=["CPUExecutionProvider"])


def inputs(folder, file, shapes):
    dice = numpy.random.default_rng(1)
    for k, (port, shape) in enumerate(zip(session(file).get_inputs(), shapes)):
        kind = NAMES[port.type]
        value = dice.random(shape) if kind == "float32" else dice.integers(0, 100, shape)
        value = numpy.asarray(value if shape else SAMPLE_RATE, dtype=kind)
        value.tofile(pathlib.Path(folder) / f"{k}.bin")


def kib(field):
    for line in pathlib.Path("/proc/self/status").read_text().splitlines():
        if line.startswith(field + ":"):
            return int(line.split()[1])
    return 0


def run(seconds, file, folder, shapes):
    before, start = kib("VmRSS"), time.process_time()
    s = session(file)
    loaded = time.process_time()
    binding = s.io_binding()  # without a copy a run: what its C interface does
    for k, (port, shape) in enumerate(zip(s.get_inputs(), shapes)):
        x = numpy.fromfile(pathlib.Path(folder) / f"{k}.bin", NAMES[port.type]).reshape(shape)
        binding.bind_cpu_input(port.name, x)
    for port in s.get_outputs():
        binding.bind_output(port.name)
    ready = time.process_time()
    s.run_with_iobinding(binding)
    first, grown = time.process_time(), kib("VmHWM") - before
    answer = binding.copy_outputs_to_cpu()[0]
    best, times, until = None, 1, first + seconds
    while best is None or time.process_time() < until:
        t = time.process_time()
        for _ in range(times):
            s.run_with_iobinding(binding)
        took = time.process_time() - t
        best = took / times if best is None else min(best, took / times)
        times *= 2 if took < 0.005 else 1
    sum_ = float(answer.astype("float64").sum()) if answer.dtype == numpy.float32 else 0
    print(f"load_us {(loaded - start) * 1e6:.1f} first_us {(first - ready) * 1e6:.1f} run_us {best * 1e6:.3f} "
          f"kib {grown} sum {sum_:.9g}")  # fmt: skip


if sys.argv[1] == "version":
    print(onnxruntime.__version__)
elif sys.argv[1] == "inputs":
    inputs(sys.argv[2], sys.argv[3], json.loads(sys.argv[4]))
else:
    run(float(sys.argv[2]), sys.argv[3], sys.argv[4], json.loads(sys.argv[5]))
