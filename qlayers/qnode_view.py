"""The QNode behind a layer, as PennyLane's tools (`qml.draw`, `qml.draw_mpl`, `qml.specs`) look for it."""

import contextlib
import copy
from collections.abc import Callable, Iterator, Mapping
from typing import Any

from torch import Tensor, nn


class QNodeView(nn.Module):
    """Gives a layer the attributes of its QNode, as `pennylane.qnn.TorchLayer` does.

    What the layer has itself goes first, its weights included. An attribute of the QNode that is set on the
    layer changes the layer's own copy of the QNode, and the circuit is captured anew.
    """

    _initialized = False  # whether the layer is complete, and has the QNode's attributes
    _inputs: tuple[str, ...]
    _shapes: dict[str, tuple[int, ...]]

    @property
    def qnode(self) -> Any:
        """The QNode; None for a layer made from a circuit, a file or a pickle without its function."""
        function = self.__dict__.get("_function")
        return None if function is None else function.view

    @qnode.setter
    def qnode(self, qnode: Callable) -> None:
        self._take(qnode, None)

    def _take(self, function: Callable, features: Any) -> None:
        """Make another function the layer's own."""
        raise TypeError(f"{type(self).__name__} does not say how it takes a function; define _take.")

    @property
    def qnode_weights(self) -> "Weights":
        """The weights by name, always the ones that the layer computes with."""
        return Weights(self)

    @property
    def func(self) -> Callable:
        """The function that PennyLane's tools call with the data, and weights if the layer is a TorchLayer.

        They know by the name of the class that they have to pass weights; for classes of other names this
        function has them already.
        """
        qnode = self._needed_qnode("func")
        return qnode.func if type(self).__name__ == "TorchLayer" else self._filled

    def _filled(self, *data: Tensor) -> Any:
        return self._needed_qnode("func").func(**self._arguments(data))

    def _arguments(self, data: tuple[Tensor, ...]) -> dict[str, Tensor]:
        weights = {name: weight.to(data[0]) for name, weight in self.qnode_weights.items()}
        return {**dict(zip(self._inputs, data, strict=True)), **weights}

    def construct(self, args: tuple, kwargs: dict) -> None:
        """Build the QNode's circuit for some data and the layer's weights.

        Args:
            args: the data, one tensor for each data argument.
            kwargs: unused, as upstream.
        """
        self._needed_qnode("construct").construct((), self._arguments(args))

    def __getattr__(self, name: str) -> Any:
        held = self.__dict__.get("_parameters")
        if held is not None and name in held:  # at once, as a training step asks for them
            return held[name]
        try:
            return nn.Module.__getattr__(self, name)
        except AttributeError:
            if not self._initialized:
                raise
            qnode = self._needed_qnode(name)
            with contextlib.suppress(AttributeError):
                return getattr(qnode, name)
            raise

    def __setattr__(self, name: str, value: Any) -> None:
        qnode = self.qnode if self._initialized else None
        if qnode is None or name not in qnode.__dict__ or name in self._parameters:
            nn.Module.__setattr__(self, name, value)
            return
        own = copy.copy(qnode)  # other layers may share it
        setattr(own, name, value)
        self.qnode = own

    def _needed_qnode(self, name: str) -> Any:
        """The QNode, for one of its attributes."""
        if self.qnode is None:
            raise AttributeError(
                f"{type(self).__name__!r} object has no attribute {name!r}, and no QNode that could have it, "
                "as it was made from a circuit or read from a file; see layer.circuit and layer.draw()."
            )
        return self.qnode


class Weights(Mapping[str, Tensor]):
    """The weights of a layer by name; assigning one replaces the layer's parameter."""

    def __init__(self, layer: QNodeView):
        self._layer = layer

    def __getitem__(self, name: str) -> Tensor:
        if name not in self._layer._shapes:
            raise KeyError(name)
        return getattr(self._layer, name)

    def __setitem__(self, name: str, value: Tensor) -> None:
        self[name]  # a KeyError for a weight that there is not
        setattr(self._layer, name, value if isinstance(value, nn.Parameter) else nn.Parameter(value))

    def __iter__(self) -> Iterator[str]:
        return iter(self._layer._shapes)

    def __len__(self) -> int:
        return len(self._layer._shapes)

    def __repr__(self) -> str:
        return repr(dict(self))
