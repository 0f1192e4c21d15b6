"""`qbio doctor`: what is there, what is not, and why."""

import json

import pytest

import shared
from shared.app import doctor as module
from shared.errors import UserError


def test_it_names_versions_machine_and_ops(qbio):
    code, out, _ = qbio("doctor")
    assert code == 0
    for part in (
        "torch",
        "cpu capability",
        "threads",
        "qlayers::pauli_expval",
        "biolayers::token_conv1d",
        "reference",
    ):
        assert part in out


def test_its_json_is_whole(qbio):
    code, out, _ = qbio("doctor", "--json")
    found = json.loads(out)
    assert code == 0
    assert set(found) == {"versions", "machine", "extras", "ops"}
    assert found["extras"]["train"] == []
    for providers in found["ops"].values():
        assert providers[-1]["provider"] == "reference"
        assert providers[-1]["missing"] is None


def test_it_says_what_is_missing_and_how_to_get_it(qbio, monkeypatch):
    monkeypatch.setitem(module.EXTRAS, "train", ("rich", "no_such_module"))
    out = qbio("doctor")[1]
    assert "missing no_such_module" in out
    assert 'pip install "qbio[train]"' in out


def test_a_kernel_that_cannot_run_says_why(monkeypatch):
    op = shared.registry()["qlayers::pauli_expval"]
    monkeypatch.setattr(op, "kernels", [*op.kernels])
    op.kernel("elsewhere", target="no:where", needs=("no_such_package",))
    rows = {row["provider"]: row for row in module.examine()["ops"][op.name]}
    assert rows["elsewhere"]["missing"] == "no_such_package is not installed"


def test_a_broken_plugin_is_a_finding_and_not_the_end(monkeypatch, qbio):
    def broken() -> None:
        raise UserError("plug-in 'x' of y: expected z to import")

    monkeypatch.setattr("shared.declare.registry", broken)
    code, out, _ = qbio("doctor")
    assert code == 0
    assert "plug-in 'x' of y" in " ".join(out.split())


@pytest.mark.parametrize(("verdict", "code"), [(True, 0), (False, 1)])
def test_conformance_decides_the_exit_code(monkeypatch, qbio, verdict, code):
    monkeypatch.setattr("shared.check.table", lambda: verdict)
    assert qbio("doctor", "--conformance")[0] == code
