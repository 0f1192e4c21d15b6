"""The layers of `biolayers`: ordinary `torch.nn` modules that take tokens."""

from biolayers.layers.align import Align
from biolayers.layers.attention import RotaryAttention
from biolayers.layers.attention_pool import AttentionPool
from biolayers.layers.dilated_tower import DilatedResidualTower
from biolayers.layers.long_conv import LongConv
from biolayers.layers.motif_scan import MotifScan
from biolayers.layers.profile_hmm import ProfileHMM
from biolayers.layers.protein_heads import ContactMapHead, PerResidueHead, average_product_correction
from biolayers.layers.rc_conv1d import RCConv1d, RCLinear
from biolayers.layers.rc_dropout import RCDropout
from biolayers.layers.rc_norm import RCBatchNorm1d
from biolayers.layers.rc_pool import RCAvgPool1d, RCMaxPool1d
from biolayers.layers.rc_strands import RCInvariant, RCResidual, RCTied
from biolayers.layers.rc_token_conv1d import RCTokenConv1d
from biolayers.layers.rc_token_conv_block import RCTokenConvBlock
from biolayers.layers.selective_scan import SelectiveScan
from biolayers.layers.token_conv1d import TokenConv1d
from biolayers.layers.token_conv_block import TokenConvBlock
from biolayers.layers.token_embedding import TokenEmbedding
from biolayers.layers.translate import CodonEmbedding, Translate

__all__ = [
    "Align",
    "AttentionPool",
    "CodonEmbedding",
    "ContactMapHead",
    "DilatedResidualTower",
    "LongConv",
    "MotifScan",
    "PerResidueHead",
    "ProfileHMM",
    "RCAvgPool1d",
    "RCBatchNorm1d",
    "RCConv1d",
    "RCDropout",
    "RCInvariant",
    "RCLinear",
    "RCMaxPool1d",
    "RCResidual",
    "RCTied",
    "RCTokenConv1d",
    "RCTokenConvBlock",
    "RotaryAttention",
    "SelectiveScan",
    "TokenConv1d",
    "TokenConvBlock",
    "TokenEmbedding",
    "Translate",
    "average_product_correction",
]
