# Every target does its own set-up: Python 3.11 or later and make are enough.

PYTHON ?= $(shell for python in python3 python3.13 python3.12 python3.11; do \
	$$python -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null && echo $$python && break; done)
ifeq ($(PYTHON),)
$(error Python 3.11 or later is needed; none was found. Name one with: make PYTHON=/path/to/python3)
endif

export PIP_DISABLE_PIP_VERSION_CHECK = 1
export PYTHONPATH = tests

NEWEST = .venv/installed
OLDEST = .venv-oldest/installed
FUZZER = .venv/fuzzer-installed
FUZZ_SECONDS ?= 3600
BENCH = .venv-bench/installed
DOCUMENT ?=

.PHONY: demo sandbox test test-newest test-oldest test-cluster cluster-assets faults soak fuzz canary bench bench-short lint wheel clean

## Shows the main job on an embedded cluster, by itself, to its end
demo: $(NEWEST)
	@.venv/bin/python -m sandbox.demo

## Runs a hub on an embedded cluster, to try a document: make sandbox DOCUMENT=my-profiles.yaml
sandbox: $(NEWEST)
	@.venv/bin/python -m sandbox $(if $(DOCUMENT),--document "$(DOCUMENT)") $(ARGS)

## Runs all tests, on the newest and the oldest supported JupyterHub and KubeSpawner
test: test-newest test-oldest

test-newest: $(NEWEST)
	.venv/bin/python -m pytest -m "not cluster" $(ARGS)

# A browser sees the same pages, and the tests' own API server is the same: both are looked at once.
test-oldest: $(OLDEST)
	.venv-oldest/bin/python -m pytest -m "not browser and not cluster" --ignore tests/test_sandbox_api.py $(ARGS)

## Runs the tests on a real kube-apiserver and etcd; where there are none and no Go to build them with, it skips them
test-cluster: $(NEWEST)
	@.venv/bin/python -m cluster.assets || test $$? -eq 2
	.venv/bin/python -m pytest -m cluster $(ARGS)

## Builds kube-apiserver and etcd with Go, once, into a cache outside the checkout
cluster-assets: $(NEWEST)
	@.venv/bin/python -m cluster.assets

## Starts 20,000 servers, and shows that nothing piles up
soak: $(NEWEST)
	SOAK_SPAWNS=20000 .venv/bin/python -m pytest --quiet --capture=no tests/test_soak.py

## Fuzzes whatever reads what others wrote, for FUZZ_SECONDS; what it learns and finds is kept under build/fuzz
fuzz: $(FUZZER)
	.venv/bin/python -m fuzz --seconds $(FUZZ_SECONDS) $(ARGS)

## Damages 300,000 documents, and searches all that is told of them for values of variables; findings stand under build/fuzz
canary: $(NEWEST)
	.venv/bin/python -m fuzz.canary $(ARGS)

## Measures what profiles cost a hub, and writes it into docs/costs.md; wants half an hour and an idle machine
bench: $(BENCH)
	.venv-bench/bin/python -m bench --docs $(ARGS)

## The same in tiny sizes: shows that everything runs, and no cost
bench-short: $(BENCH)
	.venv-bench/bin/python -m bench --short

## Lets every fault happen to a hub, and writes what comes of it to docs/faults.md
faults: $(NEWEST)
	@.venv/bin/python -m faults

## Checks style and types
lint: $(NEWEST)
	.venv/bin/pip install --quiet -e '.[lint]'
	.venv/bin/ruff check
	.venv/bin/ruff format --check
	.venv/bin/mypy

.PHONY: docs screenshots

## Builds the site of the docs into build/docs; whatever Sphinx warns of, links within the site included, is an error
docs: $(NEWEST)
	.venv/bin/pip install --quiet -e '.[docs]'
	.venv/bin/python -m sphinx --fail-on-warning --keep-going --fresh-env --quiet docs build/docs
	@echo "Open build/docs/index.html"

## Takes the docs' pictures of the hub anew, with a real browser
screenshots: $(NEWEST)
	SCREENSHOTS=docs/images .venv/bin/python -m pytest -m browser tests/test_browser.py

## Builds the sdist and the wheel, and tries them in fresh environments, on the newest and the oldest dependencies
wheel: $(NEWEST)
	.venv/bin/pip install --quiet -e '.[release]'
	rm -rf dist
	.venv/bin/python -m build --outdir dist .
	.venv/bin/python -m twine check --strict dist/*
	$(PYTHON) tests/try_wheel.py dist/*.whl
	$(PYTHON) tests/try_wheel.py dist/*.whl --constraint tests/oldest.txt

clean:
	rm -rf .venv .venv-oldest .venv-bench build dist

$(NEWEST): pyproject.toml
	@echo "Setting up .venv; this takes a minute or two the first time."
	@$(PYTHON) -m venv .venv
	@.venv/bin/pip install --quiet --editable '.[test]'
	@touch $@

# To build it from source takes a clang of its own version.
$(FUZZER): $(NEWEST)
	@.venv/bin/pip install --quiet --only-binary atheris --editable '.[fuzz]'
	@touch $@

$(OLDEST): pyproject.toml tests/oldest.txt
	@echo "Setting up .venv-oldest, with the oldest supported dependencies."
	@$(PYTHON) -m venv .venv-oldest
	@.venv-oldest/bin/pip install --quiet --editable '.[test]' --constraint tests/oldest.txt
	@touch $@

$(BENCH): pyproject.toml
	@echo "Setting up .venv-bench, for the benchmarks."
	@$(PYTHON) -m venv .venv-bench
	@.venv-bench/bin/pip install --quiet --editable '.[bench]'
	@touch $@
