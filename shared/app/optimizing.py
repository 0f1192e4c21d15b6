"""`qbio optimize`: what the common optimizer makes of a model, as a report, a picture and times.

The function may not be called `optimize`: to find its home the argument parser asks each package above it for
that name, and `shared.optimize` would bring PyTorch in for `qbio --help`.
"""

import json as json_format
from pathlib import Path
from typing import Any, Literal

from shared.app.models import model_of
from shared.app.runs import write_text
from shared.app.settings import MOST_TASKS, within
from shared.errors import UserError


def optimize_model(
    model: str,
    *,
    passes: list[str] | None = None,
    inference: bool = False,
    device: str | None = None,
    dtype: Literal["float32", "bfloat16", "float16"] | None = None,
    recompute: float = 0.0,
    tune: bool = False,
    time: bool = False,
    svg: Path | None = None,
    json: Path | None = None,
    batch_size: int = 64,
    threads: int | None = None,
) -> None:
    """Rewrite a model so that it computes the same faster, and report what was changed and what was not.

    Nothing is written but the files asked for: in a program, `shared.optimize(model, example_inputs)` gives
    the model that is reported on.

    Args:
        model: The folder of a run, or a function as module:function or file.py:function that returns
            (model, example_inputs).
        passes: Names of the rules to use; all by default.
        inference: Compare and time evaluation alone, without gradients.
        device: Where the model runs, such as cuda.
        dtype: Products of the classical part in this dtype, in an autocast region.
        recompute: Share of a training step's time that may be added to keep less memory, such as 0.1.
        tune: Time other kernels, the dtype and Inductor on this machine, and take the fastest.
        time: Time the model before and after.
        svg: Draw the graphs before and after into this file.
        json: Write the report into this file.
        batch_size: Sequences in the example for the model of a run.
        threads: Threads of PyTorch and of our kernels.
    """
    within("--batch-size", batch_size, 1)
    for option, path in (("--svg", svg), ("--json", json)):
        _writable(option, path)
    import torch

    from shared.graph import optimize as optimized

    if threads is not None:
        within("--threads", threads, 1, MOST_TASKS)
        torch.set_num_threads(threads)
    given, inputs = model_of(model, batch_size=batch_size)
    better: Any = optimized(
        given, inputs, passes=passes, device=device, dtype=dtype,
        training=not inference, recompute=recompute, tune=tune,
    )  # fmt: skip
    print(better.report)
    content = better.report.as_dict()
    if time:
        content["milliseconds"] = _timed(given, better, inputs, inference=inference)
    if json is not None:
        write_text(json, json_format.dumps(content, indent=2) + "\n")
    if svg is not None:
        _draw(svg, given, better, inputs)


def _writable(option: str, path: Path | None) -> None:
    if path is not None and (path.is_dir() or not path.parent.is_dir()):
        reason = "which is a folder" if path.is_dir() else f"whose folder {path.parent} is not there"
        raise UserError(f"{option}: expected a file that can be written, received {path}, {reason}")


def _timed(before: Any, after: Any, inputs: tuple, *, inference: bool) -> dict[str, float]:
    from shared.graph.placing import moved
    from shared.graph.timing import medians

    device = next((each.device for each in before.parameters()), None)
    first, second = medians([before, after], moved(before, inputs, device), training=not inference)
    what = "forward pass" if inference else "training step"
    if not after.report:
        print(f"{what}: {first:.3f} ms, before and after")
        return {"before": first, "after": first}
    print(f"{what}: {first:.3f} ms -> {second:.3f} ms, {first / second:.2f} times as fast")
    return {"before": first, "after": second}


def _draw(path: Path, before: Any, after: Any, inputs: tuple) -> None:
    """Both graphs, or the one if nothing was changed."""
    from shared.graph import analyse

    if after.report.before is not None:
        after.report.svg(path)
    else:
        analyse(before, inputs).svg(path)
    print(f"drawn: {path}")
