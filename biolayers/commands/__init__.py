"""The commands `qbio train`, `predict`, `export` and `demo`; what is heavy loads when one of them runs."""

from inspect import signature
from pathlib import Path
from typing import Any, Literal

from biolayers.commands.wording import on_the_command_line
from shared.errors import UserError

AlphabetName = Literal["DNA", "RNA", "PROTEIN"]


def train(
    *,
    fasta: Path | None = None,
    label_pattern: str | None = None,
    labels: Path | None = None,
    class_files: dict[str, Path] | None = None,
    name_column: str | None = None,
    label_column: str | None = None,
    alphabet: AlphabetName = "DNA",
    pad_to: Literal["longest"] | int | None = None,
    model: str = "cnn",
    epochs: int = 30,
    batch_size: int = 64,
    lr: float = 3e-3,
    weight_decay: float = 1e-2,
    patience: int = 10,
    seed: int = 0,
    workers: int = 0,
    threads: int | None = None,
    split_by: Literal["sequence", "similarity"] = "sequence",
    no_leakage_check: bool = False,
    out: Path | None = None,
    resume: Path | None = None,
) -> None:
    """Train a classifier on labelled sequences and report how good it is on sequences it never saw.

    The records are split into 80 % for training, 10 % for validation and 10 % held out; identical sequences
    stay in one part, and held-out ones that are similar to others in training are reported. The labels come
    from one of --label-pattern, --labels and --class-files.

    Args:
        fasta: The sequences.
        label_pattern: Regular expression whose first group is the class, searched in each header,
            such as 'class=([a-z]+)'.
        labels: CSV or TSV table of names and classes.
        class_files: One FASTA file per class instead of --fasta, as --class-files.donor d.fa
            --class-files.acceptor a.fa.
        name_column: The table's column of names, if its header says neither name nor id.
        label_column: The table's column of classes, if its header says neither label nor class.
        alphabet: The kind of sequence.
        pad_to: Fill shorter sequences up to this length, or to the longest; else all must be equally long.
        model: cnn, hybrid (the same body with a quantum circuit as its head), deepbind, danq, basset, bpnet,
            deepstarr, legnet, rchyena or carp, or any of them with a head that an installed package offers,
            such as deepstarr+quantum.
        epochs: Passes over the training part at most.
        batch_size: Records in one step.
        lr: Highest learning rate; it is warmed up to and decays to zero.
        weight_decay: Weight decay of AdamW.
        patience: Epochs without a better validation loss after which training stops.
        seed: Of everything that is random: the split, the weights, the order, dropout.
        workers: Processes that load data.
        threads: CPU threads; by default PyTorch's choice.
        split_by: What stays in one part: identical sequences, or similar ones too.
        no_leakage_check: Do not look for held-out sequences that are similar to those trained on.
        out: Folder of the run, new or empty; by default the next free one in runs/.
        resume: Continue the run in this folder; the other options are taken from it; --epochs, --threads and
            --workers may be given anew.
    """
    options = {name: value for name, value in locals().items() if name not in ("out", "resume")}
    from biolayers.commands import training

    with on_the_command_line():
        if resume is None:
            training.start(options, out=out)
        else:
            defaults = _defaults()
            changed = {name: value for name, value in options.items() if value != defaults[name]}
            training.resume(resume, changed, defaults=defaults, out=out)


def predict(
    *,
    checkpoint: Path,
    fasta: Path,
    out: Path = Path("predictions.csv"),
    force: bool = False,
    batch_size: int = 1024,
    threads: int | None = None,
) -> None:
    """Classify the sequences of a FASTA file with a trained model.

    The table has one row per record, in the file's order: its name, the class predicted, and the probability
    of each class.

    Args:
        checkpoint: Folder of a run, or one of its checkpoints.
        fasta: The sequences, as long as those of the training (or shorter, if that was with --pad-to).
        out: The CSV file to write.
        force: Replace the file if it is there.
        batch_size: Records in one step.
        threads: CPU threads; by default PyTorch's choice.
    """
    from biolayers.commands import prediction

    with on_the_command_line():
        count = prediction.predict(
            checkpoint, fasta, out, force=force, batch_size=batch_size, threads=threads
        )
    print(f"{count:,} predictions in {out}")


def export(
    run: Path,
    *,
    to: Literal["onnx", "pt2"] = "onnx",
    quantize: Literal["int8"] | None = None,
    output: Path | None = None,
    length: int | None = None,
) -> None:
    """Write a trained model into one file for other machines, and print how good it is there.

    ONNX runs in onnxruntime, with nothing of qbio or PyTorch beside it (see examples/embedded); pt2 runs in
    PyTorch with qbio's kernels: shared.load reads it. Where the run's data are at hand, accuracy before and
    after is that on the held-out part.

    Args:
        run: Folder of a run, one of its checkpoints, or a folder that save_pretrained wrote.
        to: onnx or pt2.
        quantize: int8 for weights and activations of eight bits, calibrated on the training part; circuits
            stay as they are.
        output: The file to write; by default the run's name with .onnx or .pt2, here. It is replaced if it
            is there.
        length: Of the sequences, for a saved model that does not say it.
    """
    from biolayers.commands import exporting

    with on_the_command_line():
        exporting.export(run, to=to, quantize=quantize, output=output, length=length)


def demo(
    *,
    model: str = "hybrid",
    epochs: int = 30,
    seed: int = 0,
    threads: int = 1,
    out: Path | None = None,
) -> None:
    """Train the hybrid quantum-classical model on 3,186 primate splice junctions; it takes about a minute.

    The task: does a window of 60 bases hold a donor site, an acceptor site, or neither?

    Args:
        model: hybrid, or cnn for the classical model.
        epochs: Passes over the training part at most.
        seed: Of everything that is random.
        threads: CPU threads; the model is so small that more hardly help.
        out: Folder of the run, new or empty; by default the next free one in runs/.
    """
    from biolayers.commands import training

    given = {"model": model, "epochs": epochs, "seed": seed, "threads": threads}
    data = {"fasta": example_file("splice_junctions.fa"), "label_pattern": r"class=(\w+)"}
    with on_the_command_line():
        training.start({**_defaults(), **data, **given}, out=out, name="demo")


def _defaults() -> dict[str, Any]:
    """The options of `train`, each with its default."""
    parameters = signature(train).parameters.values()
    return {each.name: each.default for each in parameters if each.name not in ("out", "resume")}


def example_file(name: str) -> Path:
    """Where an example file lies: inside the installed package, or in `examples/data` of a checkout.

    Raises:
        UserError: It is in neither place.

    Example:
        >>> example_file("splice_junctions.fa").name
        'splice_junctions.fa'
    """
    package = Path(__file__).parents[1]
    places = [package / "data" / name, package.parent / "examples" / "data" / name]
    for place in places:
        if place.is_file():
            return place
    looked = " nor ".join(str(place) for place in places)
    raise UserError(f"example data: expected {name}, found neither {looked}; install qbio again")
