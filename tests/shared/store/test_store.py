"""Saved models: the same results, names and gradients in any process, and files that cannot do harm."""

import io
import json
import os
import pickle
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest
import torch
from torch import nn

import shared
from biolayers.layers import TokenConv1d
from qlayers import Circuit, QuantumLayer
from shared.errors import UserError
from shared.store import DamagedError, IncompatibleError, MissingPackageError, StoreError, archive, guard

CIRCUIT = (
    "weights w(3)\nRX(x0) 0\nRX(x1) 1\nRY(w[0]) 0\nCNOT 0 1\nRZ(w[1]) 1\nRX(w[2]) 1\nexpval Z(0)\nexpval Z(1)"
)
PLUGIN = Path(__file__).parents[3] / "examples" / "plugin" / "qbio_gc"


def hybrid() -> nn.Module:
    """Tokens (b, 12) to logits (b, 3), through an op of each domain."""
    return nn.Sequential(
        TokenConv1d(4, 5, 3, padding=1),
        nn.BatchNorm1d(5),
        nn.ReLU(),
        nn.Flatten(),
        nn.Dropout(0.5),
        nn.Linear(60, 2),
        QuantumLayer(Circuit.parse(CIRCUIT)),
        nn.Linear(2, 3),
    )


def some_tokens(count: int) -> torch.Tensor:
    return torch.randint(0, 6, (count, 12)).to(torch.uint8)


@pytest.fixture(scope="module")
def stored(tmp_path_factory: pytest.TempPathFactory) -> tuple[nn.Module, Path]:
    """A model that has seen a batch, and its file."""
    torch.manual_seed(0)
    model, path = hybrid(), tmp_path_factory.mktemp("store") / "model.pt2"
    model(some_tokens(20))
    manifest = shared.save(model, path, some_tokens(1), metadata={"classes": "a, b, c"})
    assert model.training
    assert [place.shape for place in manifest.inputs] == [("batch", 12)]
    assert {op.name: op.package for op in manifest.ops} == {
        "biolayers::token_conv1d": "qbio",
        "qlayers::pauli_expval": "qbio",
    }
    return model, path


def changed(path: Path, to: Path, **records: bytes | None) -> Path:
    """A copy with other content in some records (by the table below), and a manifest that fits."""
    content = archive.read(path)
    for name, new in records.items():
        if new is not None:
            content[KEYS[name]] = new
    manifest = json.loads(content.pop(archive.MANIFEST))
    from shared.store.manifest import checksums

    content[archive.MANIFEST] = json.dumps({**manifest, "checksums": checksums(content)}).encode()
    to.write_bytes(archive.packed(content))
    return to


KEYS = {"program": archive.PROGRAM, "weights": archive.WEIGHTS, "constants": archive.CONSTANTS}


def test_the_same_values_names_and_gradients(stored: tuple[nn.Module, Path]) -> None:
    model, path = stored
    model.eval()
    loaded = shared.load(path)
    assert list(loaded.state_dict()) == list(model.state_dict())
    assert loaded.manifest.metadata == {"classes": "a, b, c"}
    for count in (0, 1, 2, 7):
        x = some_tokens(count)
        assert torch.equal(loaded(x), model(x))
    x = some_tokens(5)
    for each in (model, loaded):
        each.zero_grad()
        each(x).square().sum().backward()
    for (name, ours), theirs in zip(loaded.named_parameters(), model.parameters(), strict=True):
        torch.testing.assert_close(ours.grad, theirs.grad, msg=name)
    model.train()


def test_training_goes_on(stored: tuple[nn.Module, Path]) -> None:
    loaded, x = shared.load(stored[1]), some_tokens(20)
    optimizer = torch.optim.Adam(loaded.parameters(), 0.02)
    losses = []
    for _ in range(8):
        loss = nn.functional.cross_entropy(loaded(x), torch.arange(20) % 3)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
    assert losses[-1] < losses[0]
    assert loaded.double()(x).dtype == torch.float64


def test_a_loaded_model_is_saved_again(stored: tuple[nn.Module, Path], tmp_path: Path) -> None:
    loaded, x = shared.load(stored[1]), some_tokens(3)
    shared.save(loaded, tmp_path / "again.pt2", x)
    again = shared.load(tmp_path / "again.pt2")
    assert torch.equal(again(x), loaded(x))
    assert list(again.state_dict()) == list(loaded.state_dict())


@pytest.mark.parametrize(
    "x", [torch.zeros(2, 12), torch.zeros(2, 11, dtype=torch.uint8), torch.zeros(12, dtype=torch.uint8), 3]
)
def test_other_inputs_are_refused(stored: tuple[nn.Module, Path], x: object) -> None:
    with pytest.raises(UserError, match="expected"):
        shared.load(stored[1])(x)


def test_a_fresh_process_runs_it(stored: tuple[nn.Module, Path], tmp_path: Path) -> None:
    model, path = stored
    model.eval()
    x = some_tokens(4)
    torch.save((x, model(x).detach()), tmp_path / "wanted.pt")
    model.train()
    code = (
        "import sys, torch, shared; x, y = torch.load(sys.argv[2], weights_only=True); "
        "print(float((shared.load(sys.argv[1])(x) - y).abs().max()))"
    )
    done = subprocess.run(
        [sys.executable, "-c", code, path, tmp_path / "wanted.pt"],
        capture_output=True,
        text=True,
        timeout=300,
    )
    assert done.returncode == 0, done.stderr
    assert float(done.stdout) < 1e-6


def test_the_file_holds_no_paths_and_no_inputs(stored: tuple[nn.Module, Path]) -> None:
    content = stored[1].read_bytes()
    for text in (b"site-packages", b"/lib/", b".py", str(Path(__file__).parents[3]).encode()):
        assert text not in content
    with zipfile.ZipFile(stored[1]) as file:
        samples = [entry for entry in file.infolist() if "sample_inputs" in entry.filename]
    assert all(entry.file_size == 0 for entry in samples)


def plugin(folder: Path) -> dict[str, str]:
    """The environment of a process in which the example's plug-in is installed."""
    installed = folder / "qbio_gc-0.1.0.dist-info"
    installed.mkdir(parents=True)
    (installed / "METADATA").write_text("Metadata-Version: 2.1\nName: qbio-gc\nVersion: 0.1.0\n")
    (installed / "entry_points.txt").write_text("[qbio.ops]\nqbio_gc = qbio_gc.ops\n")
    package = folder / "qbio_gc"
    package.mkdir()
    for source in PLUGIN.glob("*.py"):
        (package / source.name).write_text(source.read_text())
    return {**os.environ, "PYTHONPATH": str(folder)}


def test_a_missing_plug_in_is_named(tmp_path: Path) -> None:
    code = """
import sys, torch, shared
from qbio_gc.ops import content
class Gc(torch.nn.Module):
    def forward(self, tokens):
        return content(tokens)
shared.save(Gc(), sys.argv[1], torch.zeros(2, 5, dtype=torch.uint8))
print(shared.load(sys.argv[1])(torch.ones(1, 3 + 2, dtype=torch.uint8)))
"""
    path, environment = tmp_path / "gc.pt2", plugin(tmp_path / "site")
    done = subprocess.run(
        [sys.executable, "-c", code, path], capture_output=True, text=True, env=environment, timeout=300
    )
    assert done.returncode == 0, done.stderr
    with pytest.raises(MissingPackageError, match="pip install qbio-gc") as caught:
        shared.load(path)
    assert caught.value.package == "qbio-gc"
    assert "qbio_gc::content" in str(caught.value)


def test_another_schema_is_refused(stored: tuple[nn.Module, Path], tmp_path: Path) -> None:
    content = archive.read(stored[1])
    text = content[archive.MANIFEST].replace(b"dilation=1", b"dilation=2")
    assert text != content[archive.MANIFEST]
    (tmp_path / "other.pt2").write_bytes(archive.packed({**content, archive.MANIFEST: text}))
    with pytest.raises(IncompatibleError, match="token_conv1d"):
        shared.load(tmp_path / "other.pt2")


def test_truncated_and_damaged_files_are_refused(stored: tuple[nn.Module, Path], tmp_path: Path) -> None:
    whole, path = stored[1].read_bytes(), tmp_path / "damaged.pt2"
    draw = torch.Generator().manual_seed(0)
    cuts = [0, 1, 4, len(whole) // 2, len(whole) - 1]
    flips = torch.randint(len(whole), (60,), generator=draw).tolist()
    wanted, x = shared.load(stored[1]), some_tokens(3)
    for content in [whole[:cut] for cut in cuts] + [_flipped(whole, at) for at in flips]:
        path.write_bytes(content)
        try:
            loaded = shared.load(path)
        except (DamagedError, IncompatibleError):
            continue
        assert torch.equal(loaded(x), wanted(x))  # the damage is in what nobody reads, such as padding


def _flipped(content: bytes, at: int) -> bytes:
    return content[:at] + bytes([content[at] ^ 0x55]) + content[at + 1 :]


@pytest.mark.parametrize("kind", ["text", "zip", "export", "folder", "nothing"])
def test_foreign_files_are_refused(kind: str, tmp_path: Path) -> None:
    path = tmp_path / "foreign.pt2"
    if kind == "text":
        path.write_text("no model")
    elif kind == "zip":
        with zipfile.ZipFile(path, "w") as file:
            file.writestr("archive/readme", "no model")
    elif kind == "export":
        program = torch.export.export(nn.Linear(2, 2), (torch.zeros(3, 2),))
        torch.export.save(program, path)
    elif kind == "folder":
        path.mkdir()
    with pytest.raises(StoreError, match=r"shared\.save"):
        shared.load(path)


class _Bomb:
    def __reduce__(self):
        return os.mkdir, (str(_Bomb.place),)

    place = Path()


@pytest.mark.parametrize("where", ["sample", "record", "weight", "constant", "guard"])
def test_pickles_and_code_in_a_file_are_never_run(
    where: str, stored: tuple[nn.Module, Path], tmp_path: Path
) -> None:
    _Bomb.place = tmp_path / "struck"
    pickled = io.BytesIO()
    torch.save(_Bomb(), pickled)
    content, path = archive.read(stored[1]), tmp_path / "evil.pt2"
    program = json.loads(content[archive.PROGRAM])
    if where == "weight":
        config = json.loads(content[archive.WEIGHTS])
        config["config"]["0.weight"]["use_pickle"] = True
        content |= {archive.WEIGHTS: json.dumps(config).encode(), "data/weights/weight_0": pickled.getvalue()}
    elif where == "constant":
        config = json.loads(content[archive.CONSTANTS])
        next(iter(config["config"].values()))["path_name"] = "opaque_obj_0"
        content |= {archive.CONSTANTS: json.dumps(config).encode()}
    elif where == "record":
        content["data/weights/model.pt"] = pickled.getvalue()
    elif where == "guard":
        program["guards_code"] = [f"__import__('os').mkdir({str(_Bomb.place)!r})"]
        content[archive.PROGRAM] = json.dumps(program).encode()
    from shared.store.manifest import checksums

    manifest = json.loads(content.pop(archive.MANIFEST))
    content[archive.MANIFEST] = json.dumps({**manifest, "checksums": checksums(content)}).encode()
    if where == "sample":
        from torch.export.pt2_archive._package import PT2ArchiveWriter

        with PT2ArchiveWriter(str(path)) as writer:
            for name, part in content.items():
                writer.write_bytes(name, part)
            writer.write_bytes(archive.SAMPLES, pickled.getvalue())
    else:
        path.write_bytes(archive.packed(content))
    if where in ("sample", "guard"):  # never looked at: the model is whole without
        shared.load(path)(some_tokens(2))
    else:
        with pytest.raises(DamagedError):
            shared.load(path)
    assert not _Bomb.place.exists()
    pickle.loads(pickle.dumps(_Bomb()))  # it is live
    assert _Bomb.place.exists()


TARGETS = [
    "torch.os.system",
    "torch.ops.load_library",
    "torch.ops.aten.from_file.default",
    "torch.load",
    "_operator.methodcaller",
    "_operator.attrgetter",
    "torch.ops.image.write_file.default",
    "math.__loader__",
    "#custom:thing",
]
EXPRESSIONS = [
    "__import__('os').system('true')",
    "Symbol('s0').__class__",
    "open('x')",
    "exec('1')",
    "Symbol('s0', positive=True).func",
    "(lambda: 0)()",
    "[x for x in ()]",
    "Integer(1).__class__",
]


@pytest.mark.parametrize("target", TARGETS)
def test_functions_that_do_more_than_compute_are_refused(
    target: str, stored: tuple[nn.Module, Path], tmp_path: Path
) -> None:
    program = json.loads(archive.read(stored[1])[archive.PROGRAM])
    program["graph_module"]["graph"]["nodes"][0]["target"] = target
    evil = changed(stored[1], tmp_path / "evil.pt2", program=json.dumps(program).encode())
    with pytest.raises(DamagedError, match="calls"):
        shared.load(evil)


@pytest.mark.parametrize("text", EXPRESSIONS)
def test_expressions_with_more_than_sizes_are_refused(
    text: str, stored: tuple[nn.Module, Path], tmp_path: Path
) -> None:
    raw = archive.read(stored[1])[archive.PROGRAM]
    program = json.loads(raw)
    places = [value for key, value in guard._entries(program) if key == "as_expr"]
    assert places
    places[0]["expr_str"] = text
    evil = changed(stored[1], tmp_path / "evil.pt2", program=json.dumps(program).encode())
    with pytest.raises(DamagedError, match="no expression"):
        shared.load(evil)


@pytest.mark.parametrize("tree", ["collections.defaultdict", "collections.namedtuple", "collections.deque"])
def test_patterns_that_import_modules_are_refused(
    tree: str, stored: tuple[nn.Module, Path], tmp_path: Path
) -> None:
    program = json.loads(archive.read(stored[1])[archive.PROGRAM])
    call = program["graph_module"]["module_call_graph"][0]["signature"]
    call["in_spec"] = call["in_spec"].replace("builtins.tuple", tree, 1)
    evil = changed(stored[1], tmp_path / "evil.pt2", program=json.dumps(program).encode())
    with pytest.raises(DamagedError, match="arguments or results"):
        shared.load(evil)


def test_expressions_of_real_models_pass() -> None:
    for text in (
        "Symbol('s31', positive=True, integer=True)",
        "Add(Integer(1), Mul(Integer(2), Symbol('s0', positive=True, integer=True)))",
        "FloorDiv(Symbol('s0'), Integer(2))",
        "Float('0.5', precision=53)",
        "2*s0 + 1",
    ):
        guard._expression(text, ())


def test_a_failed_save_leaves_the_file(stored: tuple[nn.Module, Path], tmp_path: Path) -> None:
    path = tmp_path / "kept.pt2"
    path.write_bytes(b"before")

    class Forks(nn.Module):
        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return x if x.sum() > 0 else -x

    with pytest.raises(UserError, match="Forks cannot be traced"):
        shared.save(Forks(), path, torch.ones(2, 3))
    with pytest.raises(StoreError, match=r"\.pt2"):
        shared.save(hybrid(), tmp_path / "model.bin", some_tokens(2))
    assert path.read_bytes() == b"before"
    assert [each.name for each in tmp_path.iterdir()] == ["kept.pt2"]
