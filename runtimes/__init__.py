"""What ONNX Runtime computes: the fast path of a torch network, and networks that are ONNX files.

The fast path: predictions, CAM and Grad-CAM of a network, from one exported graph.

    export(network, path, tags)                           # once, where torch, onnx and onnxscript are
    fast = load_fast_path(path, network, tags, device)    # in each worker: needs onnxruntime only
    fast.predict(images)
    fast.explain(method, images, targets)

Everything else of a model goes on with torch:

    decompositions.py   gradients that ONNX has no operator for, as operators that it has
    trace.py            network to a pure program: images and classes to logits and maps
    export.py           program to an ONNX file
    signature.py        what the graph takes and returns
    session.py          an ONNX file to a session on the device that was asked for, or an error
    fast_path.py        what a worker asks

An ONNX file as a network of its own, for `explainers.Network`; needs onnx, too:

    module = load_classifier(path, size, device)

    onnx_file.py        the file to a checked graph from images to logits
    feature_map.py      where to cut it
    torch_head.py       what follows the cut, as torch modules
    classifier.py       the module
"""

from runtimes.errors import ExportError, FastPathError, GraphError, ParityError, ProviderError
from runtimes.fast_path import RUNTIME, FastPath, load_fast_path

__all__ = [
    "RUNTIME",
    "ExportError",
    "FastPath",
    "FastPathError",
    "GraphError",
    "ParityError",
    "ProviderError",
    "load_fast_path",
]
