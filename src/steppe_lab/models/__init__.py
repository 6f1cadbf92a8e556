"""Models by name, one file per family: `MODELS.build("small_cnn", in_shape, classes)`.

A model file registers a function `(in_shape, classes, *, settings...) -> nn.Module`.
No model works in place, so that gradients can be differentiated again.
"""

from steppe.registry.packages import discover
from steppe_lab.models.model_registry import MODELS, ModelSpec

__all__ = ["MODELS", "ModelSpec"]

discover(__name__)
