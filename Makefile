# SPDX-License-Identifier: MIT
# The two commands to know: make demo, make test.  `make help` lists the rest.

SHELL := /bin/bash
.SHELLFLAGS := -eu -o pipefail -c
.DEFAULT_GOAL := help

TOP := $(CURDIR)
VENV := $(TOP)/.venv
PYTHON ?= /usr/bin/python3
PREFIX ?= /usr/local
DESTDIR ?=
PYTEST_ARGS ?=
BENCH_ARGS ?=
# The tools of file systems are in sbin, which only root has in its path.
export PATH := $(VENV)/bin:$(PATH):/usr/sbin:/sbin

.PHONY: help
help: ## This text
	@sed -n 's/^\([a-z-]*\):.*## \(.*\)/\1\t\2/p' $(firstword $(MAKEFILE_LIST)) | expand -t 14

.DEFAULT:
	@echo "make: no target '$@'; 'make help' lists them" >&2; exit 2

.PHONY: demo
demo: demo-deps venv preload ## Boot a guest on a volume with the stock QEMU; compare with NBD and FUSE
	@python scripts/demo.py

.PHONY: test
test: test-deps venv lint lib-tests preload fio-engine qemu ## Lint, build everything, run every test
	@OVS_QEMU_BUILD="$$(scripts/build-qemu)" python -m pytest $(PYTEST_ARGS) tests

.PHONY: lib
lib: build-deps ## The C libraries, in build/release
	@$(MAKE) --no-print-directory -C csrc all

.PHONY: install
install: build-deps ## Libraries, headers, man pages, what was built for QEMU and fio: PREFIX= DESTDIR=
	@$(MAKE) --no-print-directory -C csrc install PREFIX='$(PREFIX)' DESTDIR='$(DESTDIR)'
	@if [ -e build/qemu/block-openvstorage.so ]; then \
	    $(MAKE) --no-print-directory -C qemu-patches/preload install PREFIX='$(PREFIX)' DESTDIR='$(DESTDIR)'; \
	else \
	    echo 'note: "make preload" first to install ovs-qemu as well'; \
	fi
	@if [ -e build/release/fio/openvstorage.so ]; then \
	    $(MAKE) --no-print-directory -C csrc/fio install PREFIX='$(PREFIX)' DESTDIR='$(DESTDIR)'; \
	else \
	    echo 'note: "make fio-engine" first to install the engine for fio as well'; \
	fi

.PHONY: preload
preload: qemu-deps lib ## The driver for the distribution's own QEMU, in build/qemu
	@$(MAKE) --no-print-directory -C qemu-patches/preload

.PHONY: fio-engine
fio-engine: fio-deps lib ## The engine for the distribution's own fio, in build/release/fio
	@$(MAKE) --no-print-directory -C csrc/fio

.PHONY: qemu
qemu: qemu-deps lib ## The patched QEMU (cached outside the checkout)
	@scripts/install-debs qemu-build
	@scripts/build-qemu

.PHONY: bench
bench: export BENCH_COMMAND = make bench$(if $(QUICK), QUICK=1)$(if $(BENCH_ARGS), BENCH_ARGS="$(BENCH_ARGS)")
bench: bench-deps venv preload fio-engine ## Measure beside FUSE, NBD and others, 15 minutes; QUICK=1: two
	@python -m benchmarks $(if $(QUICK),--quick) $(BENCH_ARGS)

.PHONY: docs
docs: venv ## The reference of the Python packages, in build/docs
	@python scripts/api_docs.py build/docs
	@echo "docs: build/docs/index.html"

.PHONY: lint
lint: test-deps venv ## ruff, types, clang-format, clang warnings, static analysis
	@scripts/lint

.PHONY: lib-tests
lib-tests: lib
	@nice $(MAKE) --no-print-directory -j2 -C csrc VARIANT=release tests
	@nice $(MAKE) --no-print-directory -j2 -C csrc VARIANT=asan tests
	@nice $(MAKE) --no-print-directory -j2 -C csrc VARIANT=tsan tests

.PHONY: venv
venv: build-deps
	@scripts/venv $(VENV)

.PHONY: build-deps qemu-deps fio-deps demo-deps bench-deps test-deps
build-deps:
	@scripts/install-debs build
qemu-deps:
	@scripts/install-debs build qemu
fio-deps:
	@scripts/install-debs build fio
demo-deps:
	@scripts/install-debs build qemu guest demo
bench-deps:
	@scripts/install-debs build qemu fio demo bench
test-deps:
	@scripts/install-debs build qemu fio guest demo bench test

.PHONY: clean
clean: ## Remove what was built in the checkout (caches outside of it stay)
	rm -rf build dist .venv *.egg-info shmserver/*.so shmclient/*.so
