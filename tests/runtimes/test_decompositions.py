"""Gradients in operators that ONNX has are those of autograd."""

from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor
from torch.fx.experimental.proxy_tensor import make_fx
from torch.nn import functional

from runtimes.decompositions import decompositions

WEIGHT = torch.randn(6, 2, 3, 3, generator=torch.Generator().manual_seed(0))
CASES: dict[str, tuple[str, Callable[[Tensor], Tensor]]] = {
    "strided": ("convolution_backward", lambda x: functional.conv2d(x, WEIGHT, None, 2, 1, 1, 2)),
    "dilated": ("convolution_backward", lambda x: functional.conv2d(x, WEIGHT, None, 3, (0, 2), (2, 1), 2)),
    "transposed": ("convolution_backward", lambda x: functional.conv_transpose2d(x, WEIGHT[:4], None, 2, 1, 1, 2)),
    "adaptive": ("_adaptive_avg_pool2d_backward", lambda x: functional.adaptive_avg_pool2d(x, (3, 5))),
    "average": ("avg_pool2d_backward", lambda x: functional.avg_pool2d(x, 3, 2, 1)),
    "windows": ("avg_pool2d_backward", lambda x: functional.avg_pool2d(x, (2, 3))),
    "maximum": ("max_pool2d_with_indices_backward", lambda x: functional.max_pool2d(x, 3, 2, 1)),
    "norm": ("native_batch_norm_backward", lambda x: functional.batch_norm(x, torch.rand(4), torch.rand(4) + 1)),
}


@pytest.mark.parametrize("case", CASES)
def test_gradient(case: str) -> None:
    operator, forward = CASES[case]
    inputs = torch.randn(2, 4, 10, 11, generator=torch.Generator().manual_seed(1))

    def gradient(x: Tensor) -> Any:
        leaf = x.detach().requires_grad_()
        output = forward(leaf)
        return torch.autograd.grad(output, leaf, torch.sin(output.detach() * 7))

    torch.manual_seed(2)
    (expected,) = gradient(inputs)
    torch.manual_seed(2)
    traced = make_fx(gradient, decomposition_table=decompositions())(inputs)
    assert not [node for node in traced.graph.nodes if operator in str(node.target)]
    torch.manual_seed(2)
    assert torch.allclose(traced(inputs)[0], expected, atol=1e-5)
