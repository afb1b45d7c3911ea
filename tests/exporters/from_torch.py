"""PyTorch's exporter of the time before 2.5: a trace, or a script."""
import pathlib
import tempfile

import torch
from torch_models import MODULES, feeds_for

KEPT = []  # folders, until the process ends
NOT_KNOWN = ("antialias", "encoder_decoder", "own_norms", "spectrum")  # to this exporter


def export(module, inputs, free, opset):
    KEPT.append(tempfile.TemporaryDirectory())
    file = pathlib.Path(KEPT[-1].name) / "model.onnx"
    names = [f"x{k}" for k in range(len(inputs))]
    with torch.no_grad():
        torch.onnx.export(module.eval(), tuple(inputs), str(file), input_names=names, opset_version=opset, dynamo=False,
                          dynamic_axes=dict(zip(names, free)) if free else None)  # fmt: skip
    return file, feeds_for(file, inputs)


def make(name, opset):
    return lambda: export(*MODULES[name], opset)


MODELS = {name: make(name, 20 if name == "affine" else 17) for name in MODULES if name not in NOT_KNOWN}
MODELS |= {f"{name}_opset11": make(name, 11) for name in ("residual", "lstm", "shapes", "sizes")}
