"""The common graph optimizer: reads a whole model, rewrites what rules prove equal, reports it."""

from shared.graph.analysis import Analysis, Part, analyse
from shared.graph.attributes import ChangedSinceWarning
from shared.graph.optimize import Optimized, optimize
from shared.graph.placing import Placement
from shared.graph.recording import Step
from shared.graph.report import Change, Refusal, Report
from shared.graph.rules import Exchange, Refused, Rule, Rules
from shared.graph.scene import Call, Scene
from shared.graph.tuning import Choice, Timing, Tuning

__all__ = [
    "Analysis",
    "Call",
    "Change",
    "ChangedSinceWarning",
    "Choice",
    "Exchange",
    "Optimized",
    "Part",
    "Placement",
    "Refusal",
    "Refused",
    "Report",
    "Rule",
    "Rules",
    "Scene",
    "Step",
    "Timing",
    "Tuning",
    "analyse",
    "optimize",
]
