"""What a layer does with finite shots or on a device: runs there, and takes single shots."""

from collections.abc import Mapping
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from qlayers.kept_layer import KeptLayer
from qlayers.measure import check_exact
from qlayers.program import Captured
from qlayers.settings import Backend, Settings, number_of
from shared.errors import UserError

if TYPE_CHECKING:
    from qlayers.retrace import Retraced

COMPUTED_AS = {torch.float16: torch.float32, torch.bfloat16: torch.float32}


class MeasuredLayer(KeptLayer):
    """The part of a `QuantumLayer` that measures."""

    _backend: Backend | None

    @property
    def shots(self) -> int | None:
        """How often each circuit is measured; None for exact results. May be set."""
        return self._settings.shots

    @shots.setter
    def shots(self, shots: int | None) -> None:
        self._set_shots(shots)

    def _set_shots(self, shots: Any) -> None:
        self._run_with(replace(self._settings, shots=number_of(shots)))

    def _run_with(self, settings: Settings) -> None:
        backend = settings.backend()
        for program in self._programs.values():
            if backend is None and isinstance(program, Captured):
                check_exact(program.circuit.measurements)
        self._settings, self._backend = settings, backend

    def _by_backend(
        self,
        program: "Captured | Retraced",
        flat: Tensor,
        weights: list[Tensor],
        shape: torch.Size,
        dtype: torch.dtype,
    ) -> Any:
        """`forward` with shots, or on a device."""
        if isinstance(program, Captured) and program.circuit.counted:
            return self._counted(program, flat, weights, shape)
        out = self._backend.run(program, flat, weights)
        if program.single:
            out = out.squeeze(-1)
        return cast(out, dtype).reshape(shape[:-1] + out.shape[1:])

    def _counted(self, program: Captured, flat: Tensor, weights: list[Tensor], shape: torch.Size) -> Any:
        from qlayers.sampling.backend import Sampled
        from qlayers.sampling.tally import nested

        if not isinstance(self._backend, Sampled):
            raise UserError(
                "qml.counts: expected a layer on its own simulator, received one that runs on a device; let "
                "it return qml.probs, or call the device's QNode."
            )
        return nested(self._backend.counts(program, flat, weights), shape[:-1])

    def _taken(self, inputs: Any, more: tuple, named: dict) -> tuple:
        raise TypeError(f"{type(self).__name__} does not say how it takes data; define _taken.")

    def sample(
        self,
        inputs: Tensor | Mapping[str, Tensor] | None = None,
        *more: Tensor,
        shots: int | None = None,
        **named: Tensor,
    ) -> Tensor:
        r"""Single shots of all wires in the computational basis, whatever the layer measures.

        Args:
            inputs: as for a call of the layer, like `more` and `named`.
            more: see above.
            shots: how many; default: the layer's.
            named: see above.

        Returns:
            (..., shots, wires) int64 bits, in the order of `circuit.wires`.

        Raises:
            UserError: there is no number of shots, or the circuit depends on values.

        Example:
            >>> from qlayers import Circuit, QuantumLayer
            >>> layer = QuantumLayer(Circuit.parse("RX(x0) 0\nCNOT 0 1\nexpval Z(0)"), shots=5)
            >>> layer.sample(torch.tensor([0.0])).shape
            torch.Size([5, 2])
        """
        program, flat, weights, shape, _ = self._taken(inputs, more, named)
        with torch.no_grad():
            bits = self._settings.sampler(shots).samples(program, flat, weights)
        return bits.reshape(*shape[:-1], *bits.shape[1:])

    def counts(
        self,
        inputs: Tensor | Mapping[str, Tensor] | None = None,
        *more: Tensor,
        shots: int | None = None,
        **named: Tensor,
    ) -> Any:
        r"""How often each outcome of `sample` was seen: dicts from bits to ints, in lists nested like (...).

        Example:
            >>> from qlayers import Circuit, QuantumLayer
            >>> layer = QuantumLayer(Circuit.parse("RX(x0) 0\nCNOT 0 1\nexpval Z(0)"), shots=5)
            >>> layer.counts(torch.tensor([[0.0], [torch.pi]]))
            [{'00': 5}, {'11': 5}]
        """
        from qlayers.sampling.tally import nested, tally

        bits = self.sample(inputs, *more, shots=shots, **named)
        return nested(tally(bits.flatten(0, -3) if bits.ndim > 2 else bits.unsqueeze(0)), bits.shape[:-2])


def cast(out: Tensor, dtype: torch.dtype) -> Tensor:
    """The outputs in the inputs' dtype; complex ones in the complex dtype of that precision."""
    if not out.is_complex():
        return out.to(dtype)
    return out.to(torch.promote_types(COMPUTED_AS.get(dtype, dtype), torch.complex32))
