"""The relevance pass: from the logits back over a tape to the image."""

from collections import Counter
from dataclasses import dataclass
from functools import cached_property

import torch
from torch import Tensor

from explainers.lrp_operations import Kind, Layer, fold, kind_of, layer_of
from explainers.lrp_rules import HandBack, RuleSet, pull_back, through_first_layer, through_layer, through_sum
from explainers.lrp_tape import Step, Tape

KEEP_SIGN = (Kind.COPY, Kind.MOVE, Kind.MAXIMUM, Kind.UNWEIGHTED)
KEEP_BOX = (Kind.COPY, Kind.MOVE, Kind.DIAGONAL, Kind.NORM)


@dataclass(frozen=True)
class Link:
    """A stage of the way back: takes the relevance of `output` to that of each of `sources`."""

    output: Step
    sources: tuple[Step, ...]
    hand_back: HandBack


class Propagation:
    """Relevance of the values of an image for any number of targets, from one recorded pass.

    What the targets share, the denominators of every layer, is computed when the first one is asked for.
    """

    def __init__(self, tape: Tape, rules: RuleSet, epsilon: float, bounds: tuple[Tensor, Tensor]) -> None:
        """Prepare; nothing is computed yet.

        Args:
            tape: a recorded pass without an obstacle.
            rules: which rule goes where.
            epsilon: stabiliser of the epsilon rule.
            bounds: the smallest and the largest value that an image can have, as the network takes it, broadcastable
                to the batch.
        """
        low, high = (torch.empty_like(tape.value).copy_(bound) for bound in bounds)  # laid out in memory as the image
        exact = tape.value.dtype in (torch.float32, torch.float64)
        self._tape = tape
        self._rules = rules
        self._epsilon = epsilon
        self._dtype = tape.value.dtype if exact else torch.float32
        self._boxes = {tape.image: (low, high)}
        self._positive: set[Step] = set()

    def __call__(self, relevance: Tensor) -> Tensor:
        """Relevance of the image.

        Args:
            relevance: of the logits, shape (batch, classes).

        Returns:
            Shape (batch, 3, height, width), in the network's precision, or float32 where that is less.
        """
        with torch.inference_mode(False), torch.no_grad():
            found = {self._tape.output: relevance.to(self._dtype)}
            for link in reversed(self.links):
                shares = link.hand_back(found.pop(link.output))
                for source, part in zip(link.sources, shares, strict=True):
                    found[source] = found[source] + part if source in found else part
            return found[self._tape.image]

    @cached_property
    def links(self) -> list[Link]:
        """The stages of the way back, in the order of the forward pass."""
        way = [step for step in self._tape.way() if step is not self._tape.image]
        inner = _layers_before_norms(way)
        links = []
        for step in way:
            self._follow(step)
            if step in inner:
                layer = fold(layer_of(inner[step], self._dtype), step)
                links.append(Link(step, inner[step].sources, self._through_layer(inner[step], layer)))
            elif step not in inner.values():
                links.append(Link(step, step.sources, self._through(step)))
        return links

    def _follow(self, step: Step) -> None:
        """Find out whether a step's values can't be negative, and between which bounds they lie whatever the image."""
        kind = kind_of(step)
        if kind is Kind.RECTIFIER or (kind in KEEP_SIGN and self._positive.issuperset(step.sources)):
            self._positive.add(step)
        if kind in KEEP_BOX and len(step.sources) == 1 and step.sources[0] in self._boxes:
            ends = [step.run(end) for end in self._boxes[step.sources[0]]]
            self._boxes[step] = torch.minimum(*ends), torch.maximum(*ends)

    def _through(self, step: Step) -> HandBack:
        kind = kind_of(step)
        values = [value.to(self._dtype) for value in step.values]
        if kind is Kind.LAYER:
            return self._through_layer(step, layer_of(step, self._dtype))
        if kind is Kind.UNWEIGHTED:
            positive = self._positive.issuperset(step.sources)
            return through_sum(self._rules.unweighted, step.run, values, positive=positive, epsilon=self._epsilon)
        if kind in (Kind.MOVE, Kind.MAXIMUM):
            return pull_back(step.run, values)
        return lambda relevance: [relevance]

    def _through_layer(self, step: Step, layer: Layer) -> HandBack:
        (source,) = step.sources
        x = step.values[0].to(self._dtype)
        if self._rules.box and source in self._boxes:
            low, high = (end.to(self._dtype) for end in self._boxes[source])
            return through_first_layer(layer, x, low, high)
        rule = self._rules.dense if layer.dense else self._rules.convolution
        return through_layer(rule, layer, x, positive=source in self._positive, epsilon=self._epsilon)


def _layers_before_norms(way: list[Step]) -> dict[Step, Step]:
    """For each batch normalisation that alone reads the output of a layer: that layer."""
    readers = Counter(source for step in way for source in step.sources)
    return {
        step: step.sources[0]
        for step in way
        if kind_of(step) is Kind.NORM and kind_of(step.sources[0]) is Kind.LAYER and readers[step.sources[0]] == 1
    }
