# Thin: every target is one command of the project's own programs.

CARGO ?= cargo

.PHONY: demo build test lint unit system instructions bench pipeline fuzz docs deps

demo: build ## Ten simulated eNodeBs, real traffic, the gateway's own show output
	./target/release/starward demo

build: ## The release binary
	$(CARGO) build --release --locked -p starward

test: deps lint unit system instructions ## Everything CI runs

deps: ## The peers the system tests need (installed when root, otherwise named)
	./tests/dependencies

lint:
	$(CARGO) fmt --all --check
	$(CARGO) clippy --workspace --all-targets --locked -- -D warnings

unit: ## Unit, property and in-memory protocol tests
	$(CARGO) test --workspace --locked --exclude system-tests

system: build ## The release binary against real peers
	./tests/run

instructions: ## Instructions of a packet under valgrind, against benches/pipeline/instructions.txt
	$(CARGO) run --release --locked -p starward-pipeline -- guard

pipeline: ## The data plane's code in memory: sizes, tunnels, workers; writes target/bench/pipeline.json
	$(CARGO) run --release --locked -p starward-pipeline

bench: ## Side by side with its peers; writes target/bench/summary.json
	$(CARGO) build --release --locked -p starward -p starward-pipeline -p starward-bench
	./target/release/starward-bench

fuzz: ## Coverage-guided fuzzing, FUZZ_SECONDS (60) a target
	./fuzz/run

docs: ## Regenerate docs/reference
	UPDATE_REFERENCE=1 $(CARGO) test --locked -p telemetry -p mibs -p config
