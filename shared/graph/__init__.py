"""The common graph optimizer: reads a whole model, rewrites what rules prove equal, reports it."""

from shared.graph.analysis import Analysis, Part, analyse
from shared.graph.optimize import Optimized, optimize
from shared.graph.report import Change, Refusal, Report
from shared.graph.rules import Exchange, Refused, Rule, Rules
from shared.graph.scene import Call, Scene

__all__ = [
    "Analysis",
    "Call",
    "Change",
    "Exchange",
    "Optimized",
    "Part",
    "Refusal",
    "Refused",
    "Report",
    "Rule",
    "Rules",
    "Scene",
    "analyse",
    "optimize",
]
