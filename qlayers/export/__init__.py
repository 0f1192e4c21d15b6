"""Circuits in terms of standard real operators, for graphs that leave PyTorch: see `shared.export`.

Where the weights are known, so is the circuit as a function of its inputs. A function of few angles is a
short Fourier series (`fourier`): two matrix products with a cosine between them, whatever the depth. With
many angles the state is turned step by step (`stepwise`), and what depends on weights alone is folded.
"""

from collections.abc import Mapping

from qlayers.export.expval import lower_evolve, lower_expval, lower_transfer
from shared.export.lowering import Lowering

LOWERINGS: Mapping[str, Lowering] = {
    "qlayers::pauli_expval": lower_expval,
    "qlayers::pauli_evolve": lower_evolve,
    "qlayers::pauli_transfer": lower_transfer,
}
