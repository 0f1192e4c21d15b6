"""How a layer is kept: as a state_dict that describes it, in a file, as a pickle, as a copy."""

import copy
import os
import pickle
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from qlayers import saved
from qlayers.inputs import Features
from qlayers.program import Captured
from qlayers.qnode_view import QNodeView
from qlayers.settings import Settings
from shared.errors import UserError

if TYPE_CHECKING:
    from qlayers.retrace import Retraced


class KeptLayer(QNodeView):
    """What a `QuantumLayer` does to be saved, loaded, pickled and copied.

    The numbers of shots and trajectories and the method of differentiation are kept. A generator is not, as
    its state belongs to a run and not to a layer; a copy or a loaded layer takes seeds from torch's default
    one. A state_dict and a file keep no device and what submits to it, either.
    """

    _name: str
    _programs: "dict[Features, Captured | Retraced]"
    _settings: Settings

    def _save_to_state_dict(self, destination: dict, prefix: str, keep_vars: bool) -> None:
        """The weights; and in the metadata beside them what is needed to build the layer anew."""
        super()._save_to_state_dict(destination, prefix, keep_vars)
        description = saved.description_of(self)
        metadata = getattr(destination, "_metadata", {}).get(prefix[:-1])
        if description is not None and metadata is not None:
            metadata[saved.KEY] = description.to_plain()

    def save(self, path: str | os.PathLike) -> None:
        r"""Write weights and circuits to a file that `load` builds the layer from, without its function.

        The file is the layer's state_dict, so that other layers can load it as well.

        Raises:
            UserError: nothing is captured yet, the circuit depends on values, or weights are parametrized.

        Example:
            >>> from pathlib import Path
            >>> from qlayers import Circuit, QuantumLayer
            >>> from tempfile import TemporaryDirectory
            >>> layer = QuantumLayer(Circuit.parse("weights w()\nRX(w*x0) 0\nexpval Z(0)"))
            >>> with TemporaryDirectory() as folder:
            ...     layer.save(Path(folder, "layer.pt"))
            ...     QuantumLayer.load(Path(folder, "layer.pt"))
            QuantumLayer(circuit: 1 wire, 1 gate, 1 output; 1 feature, weights w())
        """
        if saved.description_of(self) is None:
            raise UserError(
                f"The layer cannot be saved with its circuit: expected one that is captured, received "
                f"{self.extra_repr()!r}; call it once, or save its state_dict and build it from its function."
            )
        if changed := [name for name in self._shapes if name not in self._parameters]:
            raise UserError(
                "The layer cannot be saved with its circuit: expected plain weights, received "
                f"{changed} with parametrizations; call torch.nn.utils.parametrize.remove_parametrizations, "
                "or save its state_dict."
            )
        torch.save(self.state_dict(), path)

    @classmethod
    def load(
        cls, path: str | os.PathLike, prefix: str | None = None, *, map_location: Any = None
    ) -> "KeptLayer":
        """The layer in a file, its circuits included; no code from the file is run.

        Args:
            path: what `save` wrote, or `torch.save` of the state_dict of a model that contains the layer.
            prefix: the layer's name in that model; may be left out if there is only one.
            map_location: where to put the weights, as for `torch.load`.

        Raises:
            UserError: the file describes no such layer.
        """
        return cls.from_state_dict(saved.read(path, map_location), prefix)

    @classmethod
    def from_state_dict(cls, state: Mapping[str, Tensor], prefix: str | None = None) -> "KeptLayer":
        """The layer in a state_dict, which must be the object that `state_dict()` returned or was loaded.

        Args:
            state: of the layer or of a model that contains it.
            prefix: the layer's name in that model; may be left out if there is only one.

        Raises:
            UserError: there is no such layer.
        """
        description, weights = saved.found(state, prefix)
        circuit = next(iter(description.circuits.values()))
        method = description.method
        if not isinstance(method, str):
            from qlayers.sampling.methods import Spsa

            method = Spsa(*method)
        options = {
            "shots": description.shots,
            "diff_method": method,
            "trajectories": description.trajectories,
        }
        layer = cls(circuit, dict(circuit.weights), **options)
        layer._name, layer._inputs = description.name, description.inputs
        layer._programs = {
            size: Captured(one, trajectories=description.trajectories)
            for size, one in description.circuits.items()
        }
        layer._circuit = circuit if description.fixed else None
        layer.load_state_dict(weights, assign=True)
        return layer

    def __getstate__(self) -> dict:
        """Without the Python function where it cannot be pickled: captured circuits need it no more."""
        state = dict(self.__dict__)
        del state["_backend"]
        for key in ("_function", "_init_method"):
            if not _picklable(state[key]):
                state[key] = None
        fixed = all(isinstance(program, Captured) for program in self._programs.values())
        if not fixed and state["_function"] is None:
            raise UserError(
                f"The layer calls {self._name} at each forward, and this function cannot be pickled; define "
                "it at the top level of a module, or save the state_dict."
            )
        return state

    def __setstate__(self, state: dict) -> None:
        super().__setstate__(state)
        self._backend = self._settings.backend()

    def __deepcopy__(self, memo: dict) -> "KeptLayer":
        new = type(self).__new__(type(self))
        memo[id(self)] = new
        new.__dict__.update(copy.deepcopy(dict(self.__dict__), memo))
        return new


def _picklable(value: Any) -> bool:
    try:
        pickle.dumps(value)
    except Exception:  # pickle has no error of its own for all the ways in which it fails
        return False
    return True
