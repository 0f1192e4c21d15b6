"""What the common optimizer knows about sequences: letters before a convolution, and what follows it."""

from torch import nn

from biolayers.passes.averaging import merge_avg_pool
from biolayers.passes.convolution import merge_columns
from biolayers.passes.images import flatten
from biolayers.passes.norm import merge_norm
from biolayers.passes.pooling import merge_late_relu, merge_max_pool
from biolayers.passes.strands import merge_strands
from shared.graph import Rule, Rules


def is_leaf(module: nn.Module) -> bool:
    """Layers of this package are one call each."""
    return type(module).__module__.startswith("biolayers.layers.")


RULES = Rules(
    (
        Rule("token_conv1d", "conv1d(table[tokens]) = token_conv1d(tokens, weight . table)", merge_columns),
        Rule("image_row", "f(rows.unsqueeze(2)) = f(rows).unsqueeze(2)", flatten),
        Rule(
            "token_conv1d_norm",
            "batch_norm(token_conv1d(tokens, weight, bias)) = token_conv1d(tokens, *folded(weight, bias))",
            merge_norm,
        ),
        Rule(
            "token_conv1d_max_pool",
            "max_pool1d(relu(token_conv1d(tokens))) = token_conv1d_max_pool(tokens, relu=True)",
            merge_max_pool,
        ),
        Rule(
            "token_conv1d_relu",
            "relu(max_pool1d(token_conv1d(tokens))) = token_conv1d_max_pool(tokens, relu=True)",
            merge_late_relu,
        ),
        Rule(
            "token_conv1d_avg_pool",
            "avg_pool1d(f(token_conv1d(tokens))) = token_conv1d_avg_pool(tokens, activation=f)",
            merge_avg_pool,
        ),
        Rule(
            "token_conv1d_strands",
            "conv(tokens), conv(other_strand(tokens)) = halves of conv(tokens, both_strands(weight))",
            merge_strands,
        ),
    ),
    is_leaf,
)
