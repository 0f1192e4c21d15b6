"""Sequence logos by logomaker."""

from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from matplotlib.axes import Axes


def draw(heights: np.ndarray, *, ax: "Axes | None" = None, title: str = "") -> "Axes":
    """Letters of these heights in bits, (4, w): A, C, G and T from left to right.

    Raises:
        UserError: logomaker is not installed.
    """
    from shared.errors import UserError

    try:
        import logomaker
        import pandas as pd
    except ImportError as error:
        raise UserError("logo: needs logomaker; install it with: pip install 'qbio[train]'") from error
    frame = pd.DataFrame(heights.T, columns=list("ACGT"))
    size = (max(2.0, 0.35 * len(frame)), 1.6)
    logo = logomaker.Logo(frame, ax=ax, figsize=size)
    logo.style_spines(visible=False)
    logo.style_spines(spines=["left", "bottom"], visible=True)
    logo.ax.set_ylabel("bits")
    logo.ax.set_xticks(range(len(frame)), [str(position) for position in range(1, len(frame) + 1)])
    if title:
        logo.ax.set_title(title)
    return logo.ax
