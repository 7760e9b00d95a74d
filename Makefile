# Slipway's own chores. `make help` lists them; the ones without a line there are parts of the others.
SHELL       := /bin/bash
.SHELLFLAGS := -euo pipefail -c
.DEFAULT_GOAL := help
.DELETE_ON_ERROR:
.ONESHELL:

BIN     := bin/slipway
FILE    ?= examples/local.yaml
VERSION ?= $(shell git describe --tags --always --dirty 2>/dev/null || echo unknown)
TOOL    := go tool -modfile=testing/tools/go.mod
FUZZTIME ?= 30s
export GOFLAGS ?= -buildvcs=false

.PHONY: help up down build release release-check test unit e2e e2e-all e2e-touched check fmt vet lint tidy imports vuln fuzz simulate golden bench bench-delivery bench-plan clean prepare

help: ## Show this help
	@awk -F ':.*## ' '/^[a-z0-9-]+:.*## /{printf "  make %-13s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

up: prepare build ## Make a cluster of three control planes and one worker on this computer (FILE=examples/local.yaml)
	$(BIN) apply -f $(FILE) --yes

down: build ## Remove that cluster and everything it left on this computer
	$(BIN) destroy -f $(FILE) --yes
	testing/machine.sh release

build: ## Build the static binary bin/slipway
	CGO_ENABLED=0 go build -trimpath -ldflags '-s -w -X main.version=$(VERSION)' -o $(BIN) ./cmd/slipway

release: ## Build all that a release has into dist/ (VERSION=v1.2.3): static binaries, SBOMs, checksums.txt
	testing/release/build.sh $(VERSION) dist

release-check: ## Build a release twice, the second time elsewhere and with an empty build cache, and compare the bytes
	SLIPWAY_RELEASE_CHECK=1 go test -count=1 -timeout 60m -v ./testing/release

test: prepare build ## Run every test: units with the race detector, then the built binary against real clusters
	trap 'testing/machine.sh release' EXIT
	$(MAKE) --no-print-directory unit e2e

# What computes for long in one goroutine: the race detector would only make it slow.
ALONE := TestEveryObservationIsSafe|TestNoStageOfARotationIsRefused|TestAStateOlderThanTheClusterIsRefused|$\
  TestAStateOlderThanAnOwnAuthorityIsRefused|TestCausesAreFieldsOfTheSpec|TestInputsFollowWhatUnitsRead|$\
  TestSimulate|TestSimulationFindsWhatIsBroken|TestSeedsAreReproducible

# Many tests wait for processes or for time to pass: more packages than cores at once.
unit:
	go test -race -p 4 ./...
	go test -run '^($(ALONE))$$' ./provision/plan ./testing/simulate

# Tests run side by side; gotestsum says once more at the end what the failed ones printed. testing/touched reads bin/e2e.json.
E2E := SLIPWAY_E2E=1 SLIPWAY_BIN=$(CURDIR)/$(BIN) $(TOOL) gotestsum --format standard-verbose --jsonfile bin/e2e.json -- -count=1 -p 1 ./providers/local ./testing/machines ./testing/e2e/...

e2e: build
	$(E2E) -timeout 60m

e2e-all: prepare build ## Run all tests with real clusters, also those that take too long for every change (about half an hour)
	trap 'testing/machine.sh release' EXIT
	code=0
	SLIPWAY_E2E_LONG=1 $(E2E) -timeout 180m || code=$$?
	go run ./testing/touched -record bin/e2e.json
	exit $$code

BASE    ?=
MINUTES ?= -1

e2e-touched: prepare build ## Run the long tests of e2e-all that the change since BASE touches (else: since each last passed), in MINUTES
	trap 'testing/machine.sh release' EXIT
	pattern=$$(go run ./testing/touched -base '$(BASE)' -minutes $(MINUTES))
	[ -n "$$pattern" ] || exit 0
	code=0
	SLIPWAY_E2E_LONG=1 $(E2E) -timeout 180m -run "$$pattern" || code=$$?
	go run ./testing/touched -record bin/e2e.json
	exit $$code

check: fmt vet lint tidy imports vuln ## Check format, vet, lint, go.mod, import policy and known vulnerabilities

fmt:
	@out=$$($(TOOL) gofumpt -l cmd provision certs templates providers testing); \
	  [ -z "$$out" ] || { echo "not gofumpt:"; echo "$$out"; exit 1; }

vet:
	go vet ./...

lint: ## Run golangci-lint (configured in .golangci.yml)
	$(TOOL) golangci-lint run

tidy:
	go mod tidy -diff

imports:
	go test -count=1 ./testing

vuln:
	testing/vuln.sh

fuzz: ## Run every fuzz target for FUZZTIME (30s)
	@grep -rHoE '^func Fuzz[A-Za-z0-9_]+' --include='*_test.go' cmd provision certs templates providers testing \
	  | sed 's/:func /:/' | while IFS=: read -r file target; do \
	    echo "== $$target ($$(dirname "$$file"))"; \
	    go test -run '^$$' -fuzz "^$$target\$$" -fuzztime $(FUZZTIME) "./$$(dirname "$$file")" || exit 1; \
	  done

SEEDS ?= 100000

simulate: ## Simulate clusters from SEEDS=100000 seeds, or show what happens with one (SEED=n)
	SEEDS=$(SEEDS) SEED=$(SEED) go test -count=1 -timeout 24h -run '^TestSimulate$$' ./testing/simulate -v

golden: ## Rewrite the golden files of every package that has them
	@grep -rlE '"update",|fixture\.Golden' --include='*_test.go' cmd provision certs templates providers testing \
	  | xargs -r -n1 dirname | sort -u | sed 's|^|./|' | xargs -r -n1 -I{} go test {} -update

bench: prepare build ## Measure slipway beside kubeadm on like machines; writes docs/benchmarks.md
	trap 'testing/machine.sh release' EXIT
	go run ./testing/bench -slipway $(BIN) -o docs/benchmarks.md

bench-delivery: prepare build ## Measure copies to 1, 2, 4 and 8 machines over a narrow uplink (needs tc); writes docs/benchmarks.md
	trap 'testing/machine.sh release' EXIT
	go run ./testing/bench -slipway $(BIN) -deliver 1,2,4,8 -o docs/benchmarks.md

bench-plan: build ## Measure plan, and apply through bastions, on 10, 100 and 1,000 simulated hosts; writes docs/benchmarks.md
	SLIPWAY_BIN=$(CURDIR)/$(BIN) go test ./testing/scale -run '^$$' -bench 'Plan|Hosts' -benchtime 3x -timeout 30m -report $(CURDIR)/docs/benchmarks.md

clean: ## Remove what was built here (clusters and caches stay)
	rm -rf bin dist

# Makes sure that a Docker engine answers, as root on Debian also by installing and starting it.
prepare:
	@testing/machine.sh prepare
