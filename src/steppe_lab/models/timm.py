"""Networks of PyTorch Image Models, by their names there: `timm:NAME`.

Source: Wightman, 2019, PyTorch Image Models, doi:10.5281/zenodo.4414861. Difference:
nothing works in place, so that gradients can be differentiated again. No weights are
downloaded: training starts from the initial weights of the library.
"""

from __future__ import annotations

import difflib
from typing import Any

from torch import nn

from steppe.errors import SettingError, install
from steppe.registry.registry import one_line
from steppe_lab.models.model_registry import MODELS, check_settings, image_shape


@MODELS.add(
    "timm",
    source="Wightman, 2019, doi:10.5281/zenodo.4414861",
    built_elsewhere=True,
)
def timm(in_shape: tuple[int, ...], classes: int, *, name: str) -> nn.Module:
    """Network of PyTorch Image Models, as timm:resnet26d; initial weights.

    Args:
        in_shape: (channels, height, width).
        classes: number of outputs.
        name: of a model of timm, such as vit_tiny_patch16_224; networks that take
            images of one size are built for the size of the data.

    Raises:
        SettingError: timm is not installed, has no such model or cannot build it for
            the shape of the inputs.
    """
    check_settings({}, classes=classes)
    channels, rows, columns = image_shape("timm", in_shape, least_side=1)
    library = _library()
    if not library.is_model(name):
        near = difflib.get_close_matches(name, library.list_models(), n=1)
        hint = f"did you mean '{near[0]}'? " if near else ""
        raise SettingError(
            f"timm has no model '{name}'; {hint}timm.list_models() lists all."
        )
    settings: dict[str, Any] = {"in_chans": channels, "num_classes": classes}
    if library.get_pretrained_cfg(name).fixed_input_size:
        settings["img_size"] = (rows, columns)
    try:
        model: nn.Module = library.create_model(name, pretrained=False, **settings)
    except Exception as error:  # of any kind: it is code of another library
        raise SettingError(
            f"timm cannot build {name} for inputs of shape {tuple(in_shape)} "
            f"({one_line(error)}); choose another model or data set."
        ) from error
    for module in model.modules():
        if getattr(module, "inplace", False):
            setattr(module, "inplace", False)  # noqa: B010
    return model


def _library() -> Any:
    # An extra: all other models work without it.
    try:
        import timm
    except ImportError as error:
        raise SettingError(
            f"timm:NAME needs PyTorch Image Models ({one_line(error)}); "
            f"{install('timm')}."
        ) from error
    return timm
