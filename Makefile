# Every target sets up what it needs in .venv by itself; `make help` lists them.

PYTHON ?= python3
BIN := .venv/bin
READY := .venv/.ready
export PIP_DISABLE_PIP_VERSION_CHECK := 1

.DEFAULT_GOAL := help
.PHONY: help demo test thorough agree matrix embedded fuzz workers conformance test-hardware lint format bench

help:  ## show this list
	@echo "usage: make TARGET"
	@sed -n 's/^\([a-z-]*\):.*## /  make \1|/p' $(MAKEFILE_LIST) | awk -F'|' '{ printf "%-22s%s\n", $$1, $$2 }'

demo: $(READY)  ## train the hybrid quantum-classical model on real splice junctions, write a report
	@$(BIN)/qbio demo

test: $(READY)  ## run the tests and doctests, warnings are errors (ARGS="-k name": only some)
	@$(BIN)/python -m pytest -n 2 --dist worksteal -m "not thorough" $(ARGS)

thorough: $(READY)  ## run the tests that make test leaves out: examples, the README, long statistics
	@$(BIN)/python -m pytest -n 2 --dist worksteal -m thorough

agree: $(READY)  ## 2,000 random circuits against default.qubit, values and derivatives (about 5 minutes)
	@QBIO_CIRCUITS=2000 $(BIN)/python -m pytest tests/qlayers/test_agreement.py

workers: $(READY)  ## 1,000 random batches from 8 processes, forked and spawned, against those of one
	@QBIO_EPOCHS=77 $(BIN)/python -m pytest -n 0 tests/biolayers/test_loader.py -k workers_change_nothing

conformance: $(READY)  ## PennyLane's own tests of devices on qbio.simulator, exact and with shots
	@PATH="$(CURDIR)/$(BIN):$$PATH" pl-device-test --device=qbio.simulator --shots=None -q -p no:cacheprovider
	@PATH="$(CURDIR)/$(BIN):$$PATH" pl-device-test --device=qbio.simulator --shots=20000 -q -p no:cacheprovider

matrix: $(READY)  ## every op against every row of the conformance matrix (about 20 minutes)
	@QBIO_MATRIX=all $(BIN)/python -m pytest -n 2 --dist worksteal tests/test_conformance.py

embedded: $(READY)  ## exported models in a fresh environment with onnxruntime and NumPy alone; every op in ONNX
	@QBIO_MATRIX=all $(BIN)/python -m pytest -n 0 tests/fresh/embedded.py tests/fresh/compiled.py tests/shared/export/test_ops.py

fuzz: $(READY)  ## a million mutated FASTA and FASTQ files against a naive parser (half an hour)
	@QBIO_FUZZ=1000000 QBIO_UNCHECKED=1 $(BIN)/python -m pytest -n 2 --dist worksteal tests/biolayers/test_fuzz.py

test-hardware: .venv-hardware/.ready  ## what needs Qiskit (the runner on a fake processor) or JAX, in an environment of its own
	@.venv-hardware/bin/python -m pytest -n 0 tests/qlayers/hardware/test_qiskit.py tests/qlayers/device/test_jax.py

.venv-hardware/.ready: pyproject.toml constraints.txt
	@echo "Setting up .venv-hardware; this takes a few minutes"
	@$(PYTHON) -m venv .venv-hardware || { $(PYTHON) -m venv --without-pip .venv-hardware && $(PYTHON) -m pip --python .venv-hardware/bin/python install pip; }
	@.venv-hardware/bin/python -m pip install -q -c constraints.txt -e ".[dev,hardware,jax]"
	@touch $@

lint: $(READY)  ## check format, style, types of the ground floor, and who imports whom
	@$(BIN)/python -m ruff format --check .
	@$(BIN)/python -m ruff check .
	@$(BIN)/python -m pyright --pythonpath $(BIN)/python
	@$(BIN)/lint-imports

format: $(READY)  ## format the code and mend what ruff can mend
	@$(BIN)/python -m ruff format .
	@$(BIN)/python -m ruff check --fix .

bench: $(READY)  ## measure against the peers, side by side, and write benchmarks/results
	@$(BIN)/python benchmarks/run.py --write

# Debian and Ubuntu ship venv without ensurepip; then the pip of $(PYTHON) fills the environment.
$(READY): pyproject.toml constraints.txt
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null || { \
	  echo "qbio: expected Python 3.11 or newer, received $$($(PYTHON) -V 2>&1 | head -n 1); run: make $(MAKECMDGOALS) PYTHON=python3.11"; exit 2; }
	@echo "Setting up .venv; the first time takes a few minutes"
	@$(PYTHON) -m venv .venv || { $(PYTHON) -m venv --without-pip .venv && $(PYTHON) -m pip --python $(BIN)/python install pip; }
	@$(BIN)/python -m pip install -c constraints.txt -e ".[train,dev]"
	@touch $@
