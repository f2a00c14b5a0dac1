# The habits of the project; `make` alone lists them.
SHELL := /bin/bash
.SHELLFLAGS := -eu -o pipefail -c
.DEFAULT_GOAL := help

PYTHON ?= python3
BIN := .venv/bin
INSTALLED := .venv/.installed
OHIF := .venv/ohif/package.json

# On Linux PyPI's torch brings several GB of CUDA; here PyTorch keeps the build without it. Empty: what pip
# finds by itself, which is right for a machine with a GPU.
TORCH_INDEX ?= https://download.pytorch.org/whl/cpu

# What the tests talk to: commands and libraries, and the Debian packages that bring them.
PEERS := storescu:dcmtk dciodvfy:dicom3tools ojph_compress:openjph-tools Orthanc:orthanc initdb:postgresql openssl:openssl systemd-analyze:systemd prometheus:prometheus \
	curl:curl cc:gcc /usr/include/stdio.h:libc6-dev \
	/usr/share/orthanc/plugins/libOrthancDicomWeb.so:orthanc-dicomweb chromium:chromium \
	/usr/share/orthanc/plugins/libOrthancWebViewer.so:orthanc-webviewer \
	/usr/share/orthanc/plugins/libOrthancGdcm.so:orthanc-gdcm

.PHONY: help
help: ## List the targets
	@sed -n 's/^\([a-z-]*\):.*## \(.*\)/  make \1\t\2/p' $(MAKEFILE_LIST) | expand -t 20

.PHONY: demo
demo: $(INSTALLED) ## Reconstruct the bundled sample over real DICOM networking, show where the results lie
	$(BIN)/fullfield demo

.PHONY: run
run: $(INSTALLED) ## The demo's node and archive, left running until Ctrl-C
	$(BIN)/fullfield demo --stay

.PHONY: test
test: $(INSTALLED) peers ## Run the tests, but for those that take minutes
	@# Most tests wait for peers, so that more of them run at once than there are processors; the longest files begin.
	@# PyTorch's threads would wait for each other in busy loops then: one each takes a third of the time.
	OMP_NUM_THREADS=1 $(BIN)/pytest --numprocesses 4 --dist loadfile --no-loadscope-reorder --durations 60 -rs

.PHONY: test-long
test-long: $(INSTALLED) peers $(OHIF) ## Run the tests that take minutes
	$(BIN)/pytest -m long -rs

.PHONY: lint
lint: $(INSTALLED) ## Check style, types, and which room imports which
	$(BIN)/ruff check
	$(BIN)/ruff format --check
	$(BIN)/mypy
	$(BIN)/lint-imports

.PHONY: fix
fix: $(INSTALLED) ## Mend what lint can mend by itself
	$(BIN)/ruff check --fix
	$(BIN)/ruff format

.PHONY: bench
bench: $(INSTALLED) peers ## Measure speed and memory
	@for benchmark in benchmarks/[!_]*.py; do \
		echo "== $$benchmark"; $(BIN)/python -m "benchmarks.$$(basename "$$benchmark" .py)"; \
	done

.PHONY: bench-model
bench-model: $(INSTALLED) ## Measure the model against the thesis's: seconds a frame, frames a second, memory
	@$(BIN)/python -m benchmarks.model

.PHONY: bench-ingest
bench-ingest: $(INSTALLED) peers ## Measure reception and sending against dcmtk and Orthanc
	@$(BIN)/python -m benchmarks.ingest

.PHONY: fuzz
fuzz: $(INSTALLED) peers ## Talk nonsense to a running node: make fuzz N=10000 SEED=7
	@$(BIN)/python -m tests.fuzzing --number $(or $(N),10000) --seed $(or $(SEED),7)

.PHONY: faults
faults: $(INSTALLED) peers ## Kill, cut and fill what a node stands on: make faults N=40 SEED=7 DB=postgresql
	@$(BIN)/python -m tests.harness --number $(or $(N),40) --seed $(or $(SEED),7) --database $(or $(DB),sqlite)

.PHONY: docs
docs: $(INSTALLED) ## Make docs/reference from the code
	$(BIN)/python -m dicom_node.commands.reference docs/reference

# ---- The environment, the same for every target ----

# Installs Debian packages, or says in one line what to install.
define install_packages
if ! command -v apt-get >/dev/null; then echo "Please install what Debian calls: $(1)" >&2; exit 1; fi; \
if [ "$$(id -u)" = 0 ]; then as_root=; \
elif command -v sudo >/dev/null && sudo -n true 2>/dev/null; then as_root=sudo; \
else echo "Please run first: sudo apt-get install $(1)" >&2; exit 1; fi; \
echo "Installing Debian packages: $(1)"; \
$$as_root apt-get update -qq; \
$$as_root env DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends $(1) >/dev/null
endef

# Whether a page can be read. pip would ask for it again and again, for minutes.
reachable = $(PYTHON) -c 'import sys; from urllib.request import urlopen; urlopen(sys.argv[1], timeout=10)' "$(1)" 2>/dev/null

# One line that shows what pip is at; its last line stays.
define with_progress
awk '/^(Collecting|Downloading|Processing|Installing|Successfully)/ \
{ printf "\r\033[K  %3d %.70s", ++n, $$0; fflush() } END { print "" }'
endef

# A viewer that the longer tests show the node's own DICOMweb in.
$(OHIF): $(INSTALLED)
	@if ! command -v npm >/dev/null; then $(call install_packages,npm); fi
	@mkdir -p $(@D)
	@cd $(@D) && npm pack --silent @ohif/app@3.12.0 >/dev/null && tar xzf ohif-app-3.12.0.tgz && rm ohif-app-3.12.0.tgz
	@cp $(@D)/package/package.json $@

$(INSTALLED): pyproject.toml constraints.txt
	@if ! $(PYTHON) -c 'import ensurepip' 2>/dev/null; then $(call install_packages,python3-venv); fi
	@[ -x $(BIN)/python ] || $(PYTHON) -m venv .venv
	@echo "Installing torch into .venv"
	@index="$(TORCH_INDEX)"; \
	if [ -n "$$index" ] && ! $(call reachable,$$index/torch/); then \
		echo "$$index cannot be reached: torch comes from where pip looks by itself"; index=; \
	fi; \
	$(BIN)/python -m pip install -c constraints.txt --disable-pip-version-check --progress-bar off \
		$${index:+--extra-index-url "$$index"} torch | $(with_progress)
	@echo "Installing fullfield and what it needs into .venv"
	@$(BIN)/python -m pip install -c constraints.txt --disable-pip-version-check --progress-bar off \
		-e '.[test]' | $(with_progress)
	@touch $@

.PHONY: peers
peers:
	@missing=; PATH="$$PATH:/usr/sbin:$$(echo /usr/lib/postgresql/*/bin | tr ' ' ':')"; for peer in $(PEERS); do \
		command -v "$${peer%%:*}" >/dev/null || [ -e "$${peer%%:*}" ] || missing="$${missing:+$$missing }$${peer##*:}"; \
	done; \
	if [ -n "$$missing" ]; then $(call install_packages,$$missing); fi
