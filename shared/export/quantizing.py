"""Weights and activations of eight bits, by onnxruntime's static quantiser; circuits stay as they are."""

import logging
import tempfile
import warnings
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

import numpy as np

from shared.export.errors import ExportError
from shared.export.needs import module
from shared.export.program import tuple_of

KINDS = ["Conv", "Gemm", "MatMul", "MaxPool", "Relu"]  # operators that have kernels for eight bits


def check(quantize: str | None, calibration: Any) -> None:
    """Refuse what does not fit together, before anything is computed.

    Raises:
        ExportError: see `export_onnx`.
    """
    if quantize not in (None, "int8"):
        raise ExportError(f"quantize: expected 'int8' or None, received {quantize!r}")
    if quantize is not None and calibration is None:
        raise ExportError(
            "quantize='int8': expected calibration=, batches of inputs like those to come, received none; "
            "some hundred samples of the training data serve"
        )
    if quantize is None and calibration is not None:
        raise ExportError("calibration: expected together with quantize='int8' only; leave it out")


class _Reader:
    """The batches as onnxruntime asks for them, one sample after the other's batch."""

    def __init__(self, batches: Iterable[Any], names: list[str]) -> None:
        self._rows = self._read(batches, names)
        self.count = 0

    def _read(self, batches: Iterable[Any], names: list[str]) -> Iterator[dict[str, np.ndarray]]:
        for batch in batches:
            inputs = tuple_of(batch, who="calibration")
            self.count += len(inputs[0])
            yield dict(zip(names, (x.cpu().numpy() for x in inputs), strict=True))

    def get_next(self) -> dict[str, np.ndarray] | None:
        return next(self._rows, None)


def int8(proto: Any, batches: Iterable[Any], full: set[str]) -> bytes:
    """The quantised graph.

    Args:
        proto: in floating point.
        batches: inputs, for the ranges of the activations.
        full: names of nodes that stay as they are.

    Raises:
        ExportError: there is not one batch.
    """
    quantization = module("onnxruntime.quantization")
    reader = _Reader(batches, [each.name for each in proto.graph.input])
    kinds = quantization.QuantType
    with tempfile.TemporaryDirectory() as folder, warnings.catch_warnings(), _hushed():
        warnings.simplefilter("ignore")  # of the quantiser's own code
        out = Path(folder) / "int8.onnx"
        try:
            quantization.quantize_static(
                proto,
                out,
                reader,
                quant_format=quantization.QuantFormat.QDQ,
                op_types_to_quantize=KINDS,
                per_channel=True,
                # pairs of products of full range would overflow 16 bits on processors without VNNI
                reduce_range=True,
                activation_type=kinds.QUInt8,
                weight_type=kinds.QInt8,
                nodes_to_exclude=sorted(full),
            )
        except ValueError as error:
            if reader.count:
                raise
            raise ExportError("calibration: expected at least one batch, received none") from error
        return out.read_bytes()


class _hushed:  # noqa: N801  it is used like a function
    """The quantiser's advice to preprocess, which PyTorch's exporter has done, goes to the root logger."""

    def __enter__(self) -> None:
        self._level = logging.root.level
        logging.root.setLevel(logging.ERROR)

    def __exit__(self, *_: object) -> None:
        logging.root.setLevel(self._level)
