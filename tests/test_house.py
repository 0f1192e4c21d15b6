"""The house around the code: what an import loads, what is installed, what the README says."""

import ast
import importlib
import random
import re
import subprocess
import sys
import tomllib
import zipfile
from importlib.metadata import entry_points, version
from pathlib import Path

import jaxtyping
import numpy as np
import pytest
import torch

ROOT = Path(__file__).parent.parent
PACKAGES = ("shared", "qlayers", "biolayers")
HEAVY = {"numba", "pennylane", "Bio", "pandas", "lightning", "matplotlib", "scipy", "sklearn", "tokenizers"}
HEAVY |= {"onnx", "onnxscript", "onnxruntime"}
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
ENTRIES = [
    (group, name, value) for group, table in PROJECT["entry-points"].items() for name, value in table.items()
]
MODULES = sorted(path for package in PACKAGES for path in (ROOT / package).rglob("*.py"))


def run(*command: str, folder: Path = ROOT) -> str:
    """What a fresh process prints; its words on stderr appear if it fails."""
    done = subprocess.run(command, cwd=folder, capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stderr
    return done.stdout


@pytest.mark.parametrize("package", PACKAGES)
def test_import_loads_nothing_heavy(package: str) -> None:
    script = (
        f"import sys, torch; before = set(sys.modules); import {package}; print(*set(sys.modules) - before)"
    )
    added = {name.partition(".")[0] for name in run(sys.executable, "-c", script).split()}
    assert package in added
    assert not added & HEAVY


def test_the_command_line_answers_without_pytorch() -> None:
    script = (
        "import sys; from shared.app.cli import main; main(['--version']); assert 'torch' not in sys.modules"
    )
    assert run(sys.executable, "-c", script).startswith("qbio ")


@pytest.mark.parametrize(("group", "name", "value"), ENTRIES, ids=[f"{g}:{n}" for g, n, _ in ENTRIES])
def test_entry_point_is_installed_and_resolves(group: str, name: str, value: str) -> None:
    (entry,) = (e for e in entry_points(group=group, name=name) if e.value == value)
    entry.load()


def test_installed_version_and_changelog_agree() -> None:
    newest = re.search(r"^## \[(\d[^]]*)\]", (ROOT / "CHANGELOG.md").read_text(), re.MULTILINE)
    assert newest is not None
    assert newest[1] == PROJECT["version"] == version("qbio")


@pytest.mark.parametrize("path", MODULES, ids=[str(path.relative_to(ROOT)) for path in MODULES])
def test_public_module_says_what_it_is(path: Path) -> None:
    private = any(part.startswith("_") and part != "__init__.py" for part in path.relative_to(ROOT).parts)
    text = path.read_text()
    assert private or not text.strip() or ast.get_docstring(ast.parse(text)), (
        "a public module needs a docstring"
    )


@pytest.mark.parametrize("package", PACKAGES)
def test_public_names_exist(package: str) -> None:
    module = importlib.import_module(package)
    missing = [name for name in module.__all__ if not hasattr(module, name)]
    assert not missing
    assert set(module.__all__) <= set(dir(module))


@pytest.fixture
def genome(tmp_path: Path) -> Path:
    """A folder with the files of a user: a small genome, peaks and a blacklist."""
    letters = random.Random(0)
    with (tmp_path / "genome.fa").open("w") as file:
        for contig in ("chr1", "chr2"):
            file.write(f">{contig}\n{''.join(letters.choices('ACGT', k=100_000))}\n")
    rows = [f"chr{1 + i % 2}\t{start}\t{start + 400}\tp{i}\t0\t.\t5\t3\t2\t200" for i, start in
            enumerate(range(5_000, 90_000, 5_000))]  # fmt: skip
    (tmp_path / "peaks.narrowPeak").write_text("\n".join(rows) + "\n")
    (tmp_path / "blacklist.bed").write_text("chr1\t0\t6000\n")
    return tmp_path


@pytest.mark.thorough
def test_readme_runs(genome: Path) -> None:
    blocks = re.findall(r"^```python\n(.*?)^```", (ROOT / "README.md").read_text(), re.MULTILINE | re.DOTALL)
    assert len(blocks) >= 3
    program = genome / "readme.py"  # in a file, as workers of a loader may import it
    program.write_text("\n".join(blocks))
    run(sys.executable, str(program), folder=genome)


def test_readme_links_lead_somewhere() -> None:
    links = re.findall(r"\]\((?!https?:)([^)#]+)", (ROOT / "README.md").read_text())
    assert links
    assert [link for link in links if not (ROOT / link).exists()] == []


def test_wheel_has_types_data_and_licence(tmp_path: Path) -> None:
    run(sys.executable, "-m", "hatchling", "build", "--target", "wheel", "--directory", str(tmp_path))
    (wheel,) = tmp_path.glob("*.whl")
    names = set(zipfile.ZipFile(wheel).namelist())
    wanted = {f"{package}/py.typed" for package in PACKAGES} | {"biolayers/data/splice_junctions.fa"}
    assert wanted <= names
    assert {str(path.relative_to(ROOT)) for path in MODULES} <= names
    assert any(name.endswith("licenses/LICENSE") for name in names)
    assert not [name for name in names if not name.startswith(("qbio-", *(f"{p}/" for p in PACKAGES)))]


def test_constraints_pin_every_dependency() -> None:
    from packaging.requirements import Requirement
    from packaging.utils import canonicalize_name

    lines = (ROOT / "constraints.txt").read_text().splitlines()
    pinned = {canonicalize_name(line.partition("==")[0]) for line in lines if "==" in line}
    extras = PROJECT["optional-dependencies"].values()
    wanted = [*PROJECT["dependencies"], *(line for extra in extras for line in extra)]
    assert {canonicalize_name(Requirement(line).name) for line in wanted} <= pinned


def test_types_are_checked_in_tests_and_invisible_to_the_compiler() -> None:
    from qlayers.ops.pauli import popcount

    with pytest.raises(jaxtyping.TypeCheckError, match="popcount"):
        popcount("7")
    masks = torch.tensor([0, 1, 7])
    assert torch.compile(popcount, fullgraph=True, backend="eager")(masks).tolist() == [0, 1, 3]


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_fresh_memory_is_poisoned(poisoned_memory: None, dtype: torch.dtype) -> None:
    like = torch.ones(2, 3, dtype=dtype)
    for fresh in (torch.empty(3, dtype=dtype), torch.empty_like(like), like.new_empty(5)):
        assert fresh.isnan().all()
    array = like.numpy()
    for fresh in (np.empty(3, array.dtype), np.empty_like(array)):
        assert np.isnan(fresh).all()
    assert np.empty(2, np.uint8).tolist() == [255, 255]
