"""Names of operations in autograd graphs, by their effect on a factor."""

from __future__ import annotations

RESHAPES = {"View", "UnsafeView", "ReshapeAlias", "Unsqueeze", "Squeeze"}
# Positively homogeneous in the one tensor they are applied to.
HOMOGENEOUS = RESHAPES | {
    *("T", "Transpose", "Permute", "Expand", "Clone", "Alias", "ToCopy", "Contiguous"),
    *("Select", "Slice", "Index", "IndexSelect", "Gather", "Split", "SplitWithSizes"),
    *("Unbind", "Narrow", "AsStrided", "Diagonal", "Flip", "Roll", "Repeat", "Unfold"),
    *("Tril", "Triu", "Cumsum", "Sum", "Mean", "Amax", "Amin", "Max", "Min", "Median"),
    *("Topk", "Sort", "Neg", "Abs", "Relu", "LeakyRelu", "RreluWithNoise", "Trace"),
    *("MaxPool2DWithIndices", "MaxPool3DWithIndices", "AdaptiveMaxPool2D"),
    *("AdaptiveMaxPool3D", "AvgPool2D", "AvgPool3D", "AdaptiveAvgPool2D"),
    *("AdaptiveAvgPool3D", "FractionalMaxPool2D", "MaxUnpool2D", "MaxUnpool3D"),
    *("ConstantPadNd", "ReflectionPad1D", "ReflectionPad2D", "ReflectionPad3D"),
    *("ReplicationPad1D", "ReplicationPad2D", "ReplicationPad3D", "MaskedFill"),
    *("UpsampleNearest1D", "UpsampleNearest2D", "UpsampleNearest3D"),
    *("UpsampleLinear1D", "UpsampleBilinear2D", "UpsampleTrilinear3D"),
    *("PixelShuffle", "PixelUnshuffle", "ChannelShuffle", "Im2Col", "Col2Im"),
    *("UpsampleBicubic2D", "NativeDropout"),
}
JOINS = {"Cat", "Stack", "Where", "Maximum", "Minimum", "Fmax", "Fmin"}
SUMS = {"Add", "Sub", "Rsub"}
BATCH_NORMS = {"NativeBatchNorm", "CudnnBatchNorm", "MiopenBatchNorm"}
NORMS = {"NativeLayerNorm", "NativeGroupNorm"}
