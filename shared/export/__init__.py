"""Models that leave the laboratory: as ONNX graphs of standard ops, for machines without PyTorch or qbio."""

from shared.export.errors import ExportError
from shared.export.lowering import Given, Lowering
from shared.export.onnx import export_onnx
from shared.export.report import OnnxReport, Scores

__all__ = ["ExportError", "Given", "Lowering", "OnnxReport", "Scores", "export_onnx"]
