"""Sequence models, built by name so that a checkpoint can say what it holds; saved without any code."""

from biolayers.models.base import ReferenceModel
from biolayers.models.basset import Basset
from biolayers.models.bpnet import BPNet, bpnet_loss
from biolayers.models.build import MODELS, build, from_pretrained
from biolayers.models.carp import CARP
from biolayers.models.cnn import SequenceCNN
from biolayers.models.danq import DanQ
from biolayers.models.deepbind import DeepBind
from biolayers.models.deepstarr import DeepSTARR
from biolayers.models.head import heads
from biolayers.models.legnet import LegNet
from biolayers.models.rchyena import RCHyena, pretraining_loss

__all__ = [
    "CARP",
    "MODELS",
    "BPNet",
    "Basset",
    "DanQ",
    "DeepBind",
    "DeepSTARR",
    "LegNet",
    "RCHyena",
    "ReferenceModel",
    "SequenceCNN",
    "bpnet_loss",
    "build",
    "from_pretrained",
    "heads",
    "pretraining_loss",
]
