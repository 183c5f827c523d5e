"""zennit's relevance propagation, with the rules of our default."""

from typing import Any

import torch
from torch import Tensor, nn

from benchmarks.peer import Maker, Peer, Setting, own_tree, with_gradient, without_in_place


def _lrp(setting: Setting, parameters: dict[str, Any]) -> Peer | None:
    """Only the default rule, on networks whose layers are modules in a row: zennit can't see into functions."""
    if setting.to_grid is not None or parameters["rule"] != "deep_taylor" or not setting.plain:
        return None
    from zennit import attribution, canonizers, composites, rules, types

    model = without_in_place(own_tree(setting.model))
    plus = rules.ZPlus(zero_params="bias")
    low, high = ((end - setting.mean) / setting.std for end in (0, 1))
    layer_map = [
        (types.Activation, rules.Pass()),
        (types.AvgPool, rules.Norm()),
        (types.Convolution, plus),
        (nn.Linear, plus),
    ]
    first = [(types.Convolution, rules.ZBox(low, high, zero_params="bias"))]
    merge = [canonizers.SequentialMergeBatchNorm()]
    composite = composites.SpecialFirstLayerMapComposite(layer_map, first, canonizers=merge)

    def logit(output: Tensor) -> Tensor:
        wanted = torch.zeros_like(output)
        wanted[:, setting.target] = output.detach()[:, setting.target]
        return wanted

    def run() -> Tensor:
        with attribution.Gradient(model=model, composite=composite) as attributor:
            found: Tensor = attributor(with_gradient(setting.inputs), logit)[1]
        return found[0].sum(dim=0).detach()

    return Peer(run, None, model)


ZENNIT: dict[str, Maker] = {"lrp": _lrp}
