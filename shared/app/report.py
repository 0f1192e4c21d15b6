"""`report.html`: everything about a run on one page that needs no network, no script and no other file."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from importlib.resources import files
from typing import Any

from torch import nn

from shared.app.runs import Run, write_text


@dataclass(frozen=True, kw_only=True)
class Facts:
    """What the report says beside the metrics.

    Args:
        title: The page's heading.
        counts: Records of each class, by part: `{"train": {"donor": 613, ...}, ...}`.
        data: Sentences about the data: files, letters, duplicates.
        settings: Every option of the run.
        notes: Sentences about the model or the result.
        again: The command that repeats the run.
    """

    title: str
    counts: dict[str, dict[str, int]]
    data: Sequence[str] = ()
    settings: dict[str, Any] = field(default_factory=dict)
    notes: Sequence[str] = ()
    again: str = ""


def write_report(run: Run, metrics: dict[str, Any], model: nn.Module, facts: Facts) -> None:
    """Write `run.report`.

    Args:
        run: The run's folder.
        metrics: What `shared.app.training.train` returned, "history" included.
        model: The trained model; each of its modules with a `.circuit` that can `.draw()` is shown.
        facts: The rest.
    """
    import jinja2

    from shared.app import figures

    pictures = [
        figures.curves(metrics["history"], "loss", best_epoch=metrics["best_epoch"]),
        figures.curves(metrics["history"], "accuracy", best_epoch=metrics["best_epoch"]),
        figures.confusion(metrics["confusion"], list(metrics["per_class"])),
        figures.class_scores(metrics["per_class"]),
    ]
    environment = jinja2.Environment(autoescape=True, undefined=jinja2.StrictUndefined, trim_blocks=True)
    template = environment.from_string(
        files("shared.app").joinpath("report.html").read_text(encoding="utf-8")
    )
    page = template.render(
        metrics=metrics, facts=facts, pictures=pictures, circuits=circuits(model), modules=str(model), run=run
    )
    write_text(run.report, page)


def circuits(model: nn.Module) -> dict[str, str]:
    """The drawing of every circuit in the model, by the name of its module.

    Example:
        >>> circuits(nn.Linear(2, 2))
        {}
    """
    drawings = ((name, _drawing(module)) for name, module in model.named_modules())
    return {name or "model": drawing for name, drawing in drawings if drawing is not None}


def _drawing(module: nn.Module) -> str | None:
    draw = getattr(getattr(module, "circuit", None), "draw", None)
    return str(draw()) if callable(draw) else None
