"""Whether states fit the memory, asked before they are made."""

import torch

from shared.errors import UserError

CHECKED_FROM = 2**28  # bytes; below, nobody asks
COPIES = 4  # of all states: the final ones, their gradients, and what results are made from


def check_memory(wires: int, states: int, dtype: torch.dtype, device: torch.device) -> None:
    """Raise a `UserError` if so many states cannot be held."""
    if torch.compiler.is_compiling():
        return
    needed = states * 2 * 2**wires * dtype.itemsize
    check_bytes(needed, device, f"A circuit on {wires} wires", "use fewer wires")


def check_bytes(needed: int, device: torch.device, what: str, advice: str) -> None:
    """Raise a `UserError` if so many bytes of states cannot be held."""
    if torch.compiler.is_compiling() or needed < CHECKED_FROM:
        return
    available = _available(device)
    if available is not None and needed > available:
        raise UserError(
            f"{what}: expected states that fit the memory, but {_size(needed)} are needed and "
            f"{_size(available)} are available on {device}; {advice}, fewer samples at a time, or float32."
        )


def _available(device: torch.device) -> int | None:
    """Free bytes, or None where that is not known."""
    if device.type == "cuda":
        return torch.cuda.mem_get_info(device)[0]
    if device.type != "cpu":
        return None
    try:
        with open("/proc/meminfo") as lines:
            return next(int(line.split()[1]) * 1024 for line in lines if line.startswith("MemAvailable"))
    except (OSError, StopIteration):  # another system than Linux
        import os

        if hasattr(os, "sysconf") and "SC_PHYS_PAGES" in os.sysconf_names:
            return os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
        return None


def _size(count: int) -> str:
    return f"{count / 2**30:.3g} GiB"
