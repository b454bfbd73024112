# Every target does its own set-up: Python 3.11 or later and make are enough.

PYTHON ?= $(shell for python in python3 python3.14 python3.13 python3.12 python3.11; do \
	$$python -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null && echo $$python && break; done)
ifeq ($(PYTHON),)
$(error Python 3.11 or later is needed; none was found. Name one with: make PYTHON=/path/to/python3)
endif

export PIP_DISABLE_PIP_VERSION_CHECK = 1
export PYTHONPATH = tests/tools

NEWEST = .venv/installed
OLDEST = .venv-oldest/installed
BENCH = .venv-bench/installed
LOCKER = .venv-lock/installed
FUZZ_SECONDS ?= 3600
WORST_SECONDS ?= 600
GATE = lint docs release mutants bench
ORACLE_PAIRS ?= 100000
QUOTA_STEPS ?= 100000
TEAM_DOCUMENTS ?= 10000
DOCUMENT ?=
# What `make lock` may move. To move one alone: make lock UPGRADE='--upgrade-package aiohttp'
UPGRADE ?= --upgrade

LOCKS = tests/tools/locks
INSTALL = -m pip install --quiet --require-hashes --only-binary :all: --requirement
COMPILE = .venv-lock/bin/uv pip compile --quiet --universal --python-version 3.11 --only-binary :all: \
	--generate-hashes --no-header $(UPGRADE)

.PHONY: demo sandbox test test-newest test-modules test-product test-oldest test-latest test-cluster cluster-assets faults soak fuzz fuzz-short worst canary
.PHONY: faults-cluster oracle oracle-faults quotas teams teams-faults test-faults mutants mutants-short bench bench-short lint wheel lock clean

## Shows the main job on an embedded cluster, by itself, to its end
demo: $(NEWEST)
	@.venv/bin/python -m sandbox.demo

## Runs a hub on an embedded cluster, to try a document: my-profiles.yaml, or make sandbox DOCUMENT=FILE
sandbox: $(NEWEST)
	@.venv/bin/python -m sandbox $(if $(DOCUMENT),--document "$(DOCUMENT)") $(ARGS)

## Runs all tests, on the newest and the oldest supported JupyterHub and KubeSpawner
test: test-newest test-oldest

# In two halves of about the same length, which the gate runs side by side. Every fault happens on both hosts, with some
# invalid examples; all happen with `make test-faults`.
test-newest: test-modules test-product

test-modules: $(NEWEST)
	.venv/bin/python -m pytest -m "not cluster" --ignore tests/product $(ARGS)

test-product: $(NEWEST)
	FAULT_EXAMPLES=some .venv/bin/python -m pytest -m "not cluster" tests/product $(ARGS)

# What is the same with any dependencies, `make test-newest` alone runs: the browser, which sees the same pages, the tools,
# `decide`, which uses none of them, and what is marked `newest`. What the fuzzer calls is ours.
test-oldest: $(OLDEST)
	FAULT_EXAMPLES=others .venv-oldest/bin/python -m pytest -m "not browser and not cluster and not newest" \
		--ignore tests/decide --ignore-glob 'tests/tools_tests/test_[!f]*' $(ARGS)

## Runs the tests on the newest of everything, whatever is locked; says what fails and what is newer than the lock
test-latest:
	@echo "Setting up .venv-latest, with the newest of everything."
	@$(PYTHON) -m venv --clear .venv-latest
	@.venv-latest/bin/python -m pip install --quiet --editable '.[test]'
	.venv-latest/bin/python -m locks.latest $(ARGS)

## Runs the tests on a real control plane; where there is none and no Go to build it with, it skips them
test-cluster: $(NEWEST)
	@.venv/bin/python -m cluster.assets || test $$? -eq 2
	.venv/bin/python -m pytest -m cluster $(ARGS)

## Builds a control plane, KWOK, kubectl, helm and promtool with Go, once, into a cache outside the checkout
cluster-assets: $(NEWEST)
	@.venv/bin/python -m cluster.assets

## Starts 20,000 servers, and shows that nothing piles up
soak: $(NEWEST)
	SOAK_SPAWNS=20000 .venv/bin/python -m pytest --quiet --capture=no tests/product/test_soak.py

## Fuzzes whatever reads what others wrote, for FUZZ_SECONDS; what it learns and finds is kept under build/fuzz
fuzz: .venv/fuzz-installed
	.venv/bin/python -m fuzz --seconds $(FUZZ_SECONDS) $(ARGS)

# All but the large targets, whose seeds alone take minutes; `make test` has the worst of those.
fuzz-short: .venv/fuzz-installed
	.venv/bin/python -m fuzz --seconds 20 --target document --target manifest --target configmap --target quantity

## Searches for the valid document that costs a hub most, for WORST_SECONDS
worst: $(NEWEST)
	.venv/bin/python -m fuzz.worst --seconds $(WORST_SECONDS) $(ARGS)

## Plants faults in the comparison, one at a time, and sees brute force find each
oracle-faults: $(NEWEST)
	.venv/bin/python -m oracle.planted $(ARGS)

## Damages 300,000 documents, and searches all that is told of them for values of variables; findings stand under build/fuzz
canary: $(NEWEST)
	.venv/bin/python -m fuzz.canary $(ARGS)

## Compares 100,000 pairs of documents with the package and by brute force, over everybody; findings stand under build/oracle
oracle: $(NEWEST)
	.venv/bin/python -m oracle --pairs $(ORACLE_PAIRS) $(ARGS)

## Starts, stops and breaks servers on a real hub in QUOTA_STEPS random steps, and asks a model what should have come of it
quotas: $(NEWEST)
	.venv/bin/python -m quotas --steps $(QUOTA_STEPS) $(ARGS)

## Compares what 10,000 documents of teams give with what their bounds allow, over everybody
teams: $(NEWEST)
	.venv/bin/python -m teams --documents $(TEAM_DOCUMENTS) $(ARGS)

## Plants faults in what bounds teams, one at a time, and sees the oracle find each
teams-faults: $(NEWEST)
	.venv/bin/python -m teams.planted $(ARGS)

## Runs the tests on mutants of document, decide and pod, and says which survive; with --draw, draws them anew
mutants: .venv/mutants-installed
	.venv/bin/python -m mutants $(ARGS)

# A few that must be killed, by the tests of their own modules: shows that the tool still finds and runs mutants.
mutants-short: .venv/mutants-installed
	.venv/bin/python -m mutants --list tests/tools/mutants/short.txt --least 100

## Measures what profiles cost a hub, and writes it into docs/costs.md; wants half an hour and an idle machine
bench: $(BENCH)
	.venv-bench/bin/python -m bench --docs $(ARGS)
	.venv-bench/bin/python -m bench.foresee
	.venv-bench/bin/python -m bench.quotas

## The same in tiny sizes: shows that everything runs, and no cost
bench-short: .venv/bench-installed
	.venv/bin/python -m bench --short
	.venv/bin/python -m bench.foresee --profiles 30 --groups 10 --patterns 10
	.venv/bin/python -m bench.quotas --servers 40 --quotas 10

## Lets every fault happen to a hub, and writes what comes of it to docs/faults.md
faults: $(NEWEST)
	@.venv/bin/python -m faults

## Breaks a real API server amid 200 starts, and writes what comes of it to the last part of docs/faults.md
faults-cluster: $(NEWEST)
	@.venv/bin/python -m faults.cluster $(ARGS)

## Lets every fault and every invalid example happen to a hub, on the newest and on the oldest hosts
test-faults: $(NEWEST) $(OLDEST)
	.venv/bin/python -m pytest tests/product/test_faults.py $(ARGS)
	.venv-oldest/bin/python -m pytest tests/product/test_faults.py $(ARGS)

## Checks style, types, and which package imports which
lint: .venv/lint-installed
	.venv/bin/ruff check
	.venv/bin/ruff format --check
	.venv/bin/mypy
	.venv/bin/lint-imports --no-cache --no-logo

.PHONY: docs screenshots

## Builds the site of the docs into build/docs, warnings and dead links being errors, and looks at every page
docs: .venv/docs-installed
	.venv/bin/python -m sphinx --fail-on-warning --keep-going --fresh-env --quiet docs build/docs
	.venv/bin/python tests/tools/look_at_site.py build/docs
	@echo "Open build/docs/index.html"

## Takes the docs' pictures of the hub anew, with a real browser
screenshots: $(NEWEST)
	SCREENSHOTS=docs/images .venv/bin/python -m pytest -m browser tests/product/test_browser.py

## Builds the sdist and the wheel, and tries them in fresh environments, on the newest and the oldest dependencies
wheel: .venv/release-installed
	rm -rf dist
	.venv/bin/python -m build --no-isolation --outdir dist .
	.venv/bin/python -m twine check --strict dist/*
	$(PYTHON) tests/tools/try_wheel.py dist/*.whl $(LOCKS)/runtime.txt
	$(PYTHON) tests/tools/try_wheel.py dist/*.whl $(LOCKS)/oldest-runtime.txt

## Renews the lock files: what the other targets install, each in the newest version that pyproject.toml allows today
lock: $(LOCKER)
	@echo "Renewing $(LOCKS)."
	@$(COMPILE) --group lock --output-file $(LOCKS)/lock.txt >/dev/null
	@$(COMPILE) pyproject.toml --extra test --group build --output-file $(LOCKS)/test.txt >/dev/null
	@$(COMPILE) pyproject.toml --extra test --group build --constraint $(LOCKS)/oldest.in \
		--output-file $(LOCKS)/oldest.txt >/dev/null
	@$(COMPILE) pyproject.toml --constraint $(LOCKS)/test.txt --output-file $(LOCKS)/runtime.txt >/dev/null
	@$(COMPILE) pyproject.toml --constraint $(LOCKS)/oldest.txt --output-file $(LOCKS)/oldest-runtime.txt >/dev/null
	@# These share .venv, so each keeps the versions of those before it.
	@held="--constraint $(LOCKS)/test.txt"; for extra in docs lint release fuzz mutants; do \
		$(COMPILE) pyproject.toml $$held --extra $$extra --output-file $(LOCKS)/$$extra.txt >/dev/null || exit; \
		held="$$held --constraint $(LOCKS)/$$extra.txt"; done; \
	$(COMPILE) pyproject.toml --extra bench --group build $$held --output-file $(LOCKS)/bench.txt >/dev/null

clean:
	rm -rf .venv .venv-oldest .venv-latest .venv-bench .venv-lock build dist

# An environment has what its lock file names, in files whose hashes stand there, and nothing else. Nothing is built but
# the project itself, and that with the locked hatchling: pip would fetch the newest one for it.
define set_up
@$(PYTHON) -m venv --clear $(@D)
@$(@D)/bin/python $(INSTALL) $<
endef
INSTALL_PROJECT = -m pip install --quiet --no-build-isolation --no-deps --editable .

$(NEWEST): $(LOCKS)/test.txt pyproject.toml build/interpreter
	@echo "Setting up .venv; this takes a minute or two the first time."
	$(set_up)
	@$(@D)/bin/python $(INSTALL_PROJECT)
	@touch $@

$(OLDEST): $(LOCKS)/oldest.txt pyproject.toml build/interpreter
	@echo "Setting up .venv-oldest, with the oldest supported dependencies."
	$(set_up)
	@$(@D)/bin/python $(INSTALL_PROJECT)
	@touch $@

$(BENCH): $(LOCKS)/bench.txt pyproject.toml build/interpreter
	@echo "Setting up .venv-bench, for the benchmarks."
	$(set_up)
	@$(@D)/bin/python $(INSTALL_PROJECT)
	@touch $@

$(LOCKER): $(LOCKS)/lock.txt build/interpreter
	$(set_up)
	@touch $@

# What an extra adds to .venv: .venv/lint-installed, and so on.
.venv/%-installed: $(LOCKS)/%.txt $(NEWEST)
	@.venv/bin/python $(INSTALL) $<
	@touch $@

# All that the gate has in .venv, in one go: pip takes as long to look at what is there as to add something. Without fuzz,
# which some Pythons do not have.
.venv/gate-installed: $(GATE:%=$(LOCKS)/%.txt) $(NEWEST)
	@.venv/bin/python $(INSTALL) $(LOCKS)/test.txt $(GATE:%=--requirement $(LOCKS)/%.txt)
	@touch $(GATE:%=.venv/%-installed) $@

# With another PYTHON, every environment is set up anew.
build/interpreter: FORCE
	@mkdir -p build
	@$(PYTHON) -c 'import sys; print(sys.version)' >$@.now
	@cmp -s $@.now $@ || cp $@.now $@

.PHONY: FORCE
