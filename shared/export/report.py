"""What an export says of itself: size, and how far its results are from PyTorch's."""

from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True)
class Scores:
    """How a model does on records whose class is known, or how often it agrees with another.

    Args:
        before: share that the model in PyTorch has right.
        after: share that the exported one has right.
        agreement: share on which both choose the same class.
        records: how many they are.
    """

    before: float
    after: float
    agreement: float
    records: int

    def __str__(self) -> str:
        return (
            f"accuracy on {self.records:,} records: {self.before:.4f} before, {self.after:.4f} after; the "
            f"same class for {self.agreement:.2%}"
        )


@dataclass(frozen=True)
class OnnxReport:
    """A finished ONNX file.

    Args:
        path: of the file.
        size: in bytes.
        opset: version of ONNX's operators.
        nodes: how many operators the graph has.
        replaced: which ops of qbio became standard ones: "op at place", in order.
        difference: the largest from PyTorch over the example inputs, before quantisation.
        quantized: None, or "int8".
        size_before: in bytes before quantisation, or None.
        scores: on what was given as `evaluation`, or None.
    """

    path: Path
    size: int
    opset: int
    nodes: int
    replaced: tuple[str, ...]
    difference: float
    quantized: str | None = None
    size_before: int | None = None
    scores: Scores | None = None

    def __str__(self) -> str:
        lines = [
            f"{self.path}: {self.size:,} bytes, {self.nodes} operators of ONNX opset {self.opset}",
            f"largest difference from PyTorch: {self.difference:.1e}",
        ]
        if self.quantized:
            lines.append(f"{self.quantized}: {self.size_before:,} bytes before, {self.size:,} after")
        if self.scores:
            lines.append(str(self.scores))
        return "\n".join(lines)
