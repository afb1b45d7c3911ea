"""PyTorch's exporter of today: torch.export, onnxscript's functions and optimizer."""
import pathlib
import tempfile

import torch
from torch_models import MODULES, feeds_for

KEPT = []  # folders, until the process ends
NOT_KNOWN = ("branch", "products", "rnn", "rows_where", "steps")  # scripts, and ops that onnxscript lacks


def export(module, inputs, free, opset):
    KEPT.append(tempfile.TemporaryDirectory())
    file = pathlib.Path(KEPT[-1].name) / "model.onnx"
    names = [f"x{k}" for k in range(len(inputs))]
    program = torch.onnx.export(module.eval(), tuple(inputs), input_names=names, opset_version=opset, dynamo=True,
                                dynamic_axes=dict(zip(names, free)) if free else None, verbose=False)  # fmt: skip
    program.save(str(file))
    return file, feeds_for(file, inputs)


def make(name, opset=None):
    return lambda: export(*MODULES[name], opset)


MODELS = {name: make(name) for name in MODULES if name not in NOT_KNOWN}
MODELS |= {f"{name}_opset23": make(name, 23) for name in ("decoder", "encoder", "own_norms")}
