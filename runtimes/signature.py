"""What a graph takes and returns, and what it says of itself: the same for whoever writes and whoever reads it."""

from typing import Literal

Kind = Literal["cam", "grad_cam"]
"""What the maps of a graph are: `cam` serves any number of classes of an image in one run, `grad_cam` one."""

# images: (batch, 3, height, width), float32 in [0, 1], before the model's own normalisation.
# classes: (batch, targets), int64: an index, or -1 for the class with the highest logit, -2 for the next, and so on; or
#   NO_MAP in every place, where only the logits are of interest.
INPUTS = ("images", "classes")
# logits: (batch, classes), float32.
# chosen: (batch, targets), int64: `classes` with indices in the place of ranks.
# maps: (batch, targets, h, w), float32, of either sign: sum_k w_k A_k. In `cam` graphs w is the linear classifier's row
#   of the class; in `grad_cam` ones, where there is one target an image, the mean gradient of its logit.
#   Of shape (0, 0, 0, 0) where no map was asked for.
OUTPUTS = ("logits", "chosen", "maps")
NO_MAP = -(2**62)

# Names of the file's metadata.
KIND, LAYER = "whylight.kind", "whylight.layer"
