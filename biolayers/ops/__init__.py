"""The ops of `biolayers`: functions of whole batches of token sequences."""

from biolayers.ops.align import align, align_backward
from biolayers.ops.align_path import align_path
from biolayers.ops.hmm import hmm_counts, hmm_forward
from biolayers.ops.hmm_posterior import hmm_posterior
from biolayers.ops.hmm_viterbi import hmm_viterbi
from biolayers.ops.long_conv import long_conv, long_conv_kernel_grad
from biolayers.ops.motif_scan import motif_best, motif_scan
from biolayers.ops.rc_token_conv1d import rc_token_conv1d
from biolayers.ops.selective_scan import selective_scan, selective_scan_backward
from biolayers.ops.token_conv1d import token_conv1d, token_conv1d_backward
from biolayers.ops.token_conv1d_avg_pool import token_conv1d_avg_pool, token_conv1d_avg_pool_backward
from biolayers.ops.token_conv1d_max_pool import token_conv1d_max_pool
from biolayers.ops.token_conv1d_winners import token_conv1d_winners, token_conv1d_winners_backward
from biolayers.ops.token_pair_counts import token_pair_counts
from biolayers.ops.translate import translate

__all__ = [
    "align",
    "align_backward",
    "align_path",
    "hmm_counts",
    "hmm_forward",
    "hmm_posterior",
    "hmm_viterbi",
    "long_conv",
    "long_conv_kernel_grad",
    "motif_best",
    "motif_scan",
    "rc_token_conv1d",
    "selective_scan",
    "selective_scan_backward",
    "token_conv1d",
    "token_conv1d_avg_pool",
    "token_conv1d_avg_pool_backward",
    "token_conv1d_backward",
    "token_conv1d_max_pool",
    "token_conv1d_winners",
    "token_conv1d_winners_backward",
    "token_pair_counts",
    "translate",
]
