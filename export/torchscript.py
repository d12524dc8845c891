"""TorchScript: one frozen graph that `torch.jit.load` takes back without this package."""

import re
import warnings
from pathlib import Path

import torch
from torch import nn

from fashion_mnist.task import Geometry


def export(module: nn.Module, path: Path, geometry: Geometry) -> None:
    """Trace, freeze and save `module` (uint8 [n, channels, height, width] -> float32 [n, classes]).

    The same weights give the same bytes, if the file's name is the same too (it is the name of the folder inside).
    """
    example = torch.zeros(2, *geometry, dtype=torch.uint8)
    with warnings.catch_warnings(), torch.no_grad():
        # torch.jit is deprecated and works; TorchScript stays while TorchServe's users ask for it.
        warnings.filterwarnings("ignore", r"`torch\.jit\.\w+` is deprecated", DeprecationWarning)
        frozen = torch.jit.freeze(torch.jit.trace(module.eval(), example))
        unpolished = path.with_name(f"unpolished.{path.name}")
        frozen.save(str(unpolished))
    _polish(unpolished, path)
    unpolished.unlink()


def _polish(source: Path, target: Path) -> None:
    """Copy a TorchScript file without what depends on the process and the machine that wrote it.

    These are the debug records, which hold the paths of source files, and the number of classes traced before, which is
    in the names of the class and its file.
    """
    reader = torch._C.PyTorchFileReader(str(source))
    writer = torch._C.PyTorchFileWriter(str(target))
    written_by_the_writer = {"version", "byteorder", ".data/serialization_id"}
    mangling = re.compile(rb"\b___torch_mangle_\d+\b")
    for name in reader.get_all_records():
        if name in written_by_the_writer or name.endswith(".debug_pkl"):
            continue
        content: bytes = reader.get_record(name)
        if not name.startswith("constants/"):
            name, content = mangling.sub(b"model", name.encode()).decode(), mangling.sub(b"model", content)
        writer.write_record(name, content, len(content))
    writer.write_end_of_file()
