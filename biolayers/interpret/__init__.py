"""Looking into trained models: mutagenesis, attributions that add up, experiments on sequences, plots."""

from biolayers.interpret.attribution import deeplift, gradient_x_input, integrated_gradients
from biolayers.interpret.errors import AttributionError
from biolayers.interpret.experiments import ablate, marginalize, space
from biolayers.interpret.mutagenesis import IsmReport, ism, ism_report
from biolayers.interpret.plots import plot_ism, plot_logo, plot_prediction

__all__ = [
    "AttributionError",
    "IsmReport",
    "ablate",
    "deeplift",
    "gradient_x_input",
    "integrated_gradients",
    "ism",
    "ism_report",
    "marginalize",
    "plot_ism",
    "plot_logo",
    "plot_prediction",
    "space",
]
