"""Takes one class of each image back through a transformer: relevance and gradient of every block's attention.

Shapes as in `explainers.vit_forward`.
"""

from torch import Tensor

from explainers.relevance import Rules, through_linear
from explainers.vit import VisionTransformer
from explainers.vit_forward import BlockPass, Normed, merge_qkv, split_heads
from explainers.vit_gradient import BlockGradient, output_gradient


class BlockRelevance:
    """Relevance inside one block.

    Attributes:
        attention: relevance of the attention, (B, H, Q, T).
    """

    def __init__(self, done: BlockPass, relevance: Tensor, rules: Rules) -> None:
        """Go from the block's output down to its attention.

        Args:
            done: the block's forward pass.
            relevance: of the block's output, (B, Q, D).
            rules: for sums and products.
        """
        mlp, layers = done.block.mlp, done.block.attention
        skipped, inner = rules.residual(done.middle, done.answer, relevance)
        inner = through_linear(mlp.fc2, done.activated, done.answer, inner)
        middle = skipped + through_linear(mlp.fc1, done.norm2.output, done.hidden, inner)
        self._skipped, inner = rules.residual(done.tokens[:, : done.rows], done.attended, middle)
        mixed = split_heads(through_linear(layers.proj, done.mixed, done.attended, inner), layers.heads)
        product = split_heads(done.mixed, layers.heads)
        self._done = done
        self._rules = rules
        self.attention, self._value = rules.product(done.attention, done.value, product, mixed)

    def tokens(self) -> Tensor:
        """Go on to the tokens that entered the block: their relevance, (B, T, D)."""
        done = self._done
        query, key = self._rules.product(done.query, done.key.transpose(-2, -1), done.scores, self.attention)
        merged = merge_qkv(query, key.transpose(-2, -1), self._value)
        relevance = through_linear(done.block.attention.qkv, done.norm1.output, done.qkv, merged)
        relevance[:, : done.rows] += self._skipped
        return relevance


class ClassPass:
    """Walks from the logits down, block by block.

    Attributes:
        relevance: of the output of the block that comes next, (B, Q, D).
    """

    def __init__(
        self, vit: VisionTransformer, last: BlockPass, normed: Normed, logits: Tensor, seed: Tensor, rules: Rules
    ) -> None:
        """Start at the logits and go to the last block's output.

        Args:
            vit: the transformer.
            last: the last block's forward pass.
            normed: the final normalisation of its output.
            logits: (B, classes).
            seed: one class of each image, one-hot, (B, classes): its relevance and its gradient alike.
            rules: for sums and products.
        """
        self._rules = rules
        self.relevance = through_linear(vit.head, normed.output[:, 0], logits, seed).unsqueeze(1)
        self._gradient = output_gradient(vit, last, normed, seed)

    def attention(self, done: BlockPass) -> tuple[Tensor, Tensor]:
        """Relevance and gradient of a block's attention, each (B, H, Q, T)."""
        self._block_relevance = BlockRelevance(done, self.relevance, self._rules)
        self._block_gradient = BlockGradient(done, self._gradient)
        return self._block_relevance.attention, self._block_gradient.attention

    def descend(self) -> None:
        """Go on to the output of the block before."""
        self.relevance = self._block_relevance.tokens()
        self._gradient = self._block_gradient.tokens()
