"""Ops on sequences in terms of standard operators, for graphs that leave PyTorch: see `shared.export`.

Most references are plain enough as they stand. Here are those that one operator of ONNX does as well, or
that would unroll into thousands.
"""

from collections.abc import Mapping

from biolayers.export.convolutions import lower_long_conv, lower_max_pool, lower_token_conv1d
from biolayers.export.motifs import lower_best, lower_scan
from shared.export.lowering import Lowering

LOWERINGS: Mapping[str, Lowering] = {
    "biolayers::token_conv1d": lower_token_conv1d,
    "biolayers::token_conv1d_max_pool": lower_max_pool,
    "biolayers::long_conv": lower_long_conv,
    "biolayers::motif_scan": lower_scan,
    "biolayers::motif_best": lower_best,
}
