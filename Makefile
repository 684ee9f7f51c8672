# The one door: short recipes that call cargo and the scripts beside it.
.PHONY: help demo test test-long simulate fuzz soak lint bench cross deb cross-test

help:
	@echo "make demo       the real agent between a simulated plant and a simulated Kafka; ARGS=\"--for 20s --json\" unattended"
	@echo "make test       everything: format, clippy, unit, property and end-to-end tests with a real Kafka, mosquitto and Modbus devices of others"
	@echo "make test-long  20,000 power cuts, 20,000 histories of the buffer, 50,000 seeds of each simulator, each decoder fuzzed for a minute, 100,000 MQTT messages over kills: three and a half hours"
	@echo "make simulate   the forwarder, the whole way, and the Modbus source on a faulty bus, against models under SEEDS=2000 seeds each, from FROM=0, or again under SEED=n"
	@echo "make fuzz       each decoder under bytes that take ways through it which none took before, for SECONDS=60; TARGET=json alone"
	@echo "make soak       the agent killed KILLS=1000 times while Kafka and the lines fail; the last line is one JSON object; KAFKA=3.9.2 with the older one, WRITE=when_needed with a file that rests"
	@echo "make lint       format and clippy alone"
	@echo "make cross      the agent for ARM and x86-64, against glibc 2.31 and static; TARGETS=\"aarch64-unknown-linux-gnu …\""
	@echo "make deb        packages and tarballs of those, in target/dist"
	@echo "make cross-test all of them, or TARGETS, built twice, run under qemu, installed in booted systems: hours, as root"
	@echo "make bench      the figures of the whole way beside their limits; takes a release build"

demo:
	@scripts/setup.sh build
	cargo run -p tidegate-demo -- $(ARGS)

test:
	@scripts/test.sh

# Ten times what `make test` runs; one line for each campaign.
test-long:
	@scripts/setup.sh test
	CUTS=20000 cargo test --workspace --locked --test cuts
	PROPTEST_CASES=20000 cargo test --workspace --locked --lib buffer::tests
	SEEDS=50000 cargo test --workspace --locked --lib simulator::every
	$(MAKE) fuzz
	cargo build --workspace --locked --features tidegate-e2e/real-servers --all-targets
	MESSAGES=25000 cargo test --workspace --locked --features tidegate-e2e/real-servers --test kills

lint:
	@scripts/setup.sh build
	cargo fmt --all --check
	cargo clippy --workspace --locked --all-targets --features tidegate-e2e/real-servers -- -D warnings
	@scripts/deny.sh

fuzz:
	@scripts/setup.sh build
	RUSTC_WORKSPACE_WRAPPER=$(CURDIR)/scripts/counted.sh FUZZ_SECONDS=$(or $(SECONDS),60) cargo test --workspace --locked --lib fuzz::$(TARGET) -- --test-threads=1 --nocapture

soak:
	@E2E_KAFKA=$(or $(KAFKA),4.3.1) scripts/setup.sh test
	cargo build --workspace --locked --features tidegate-e2e/real-servers --all-targets
	E2E_KAFKA=$(or $(KAFKA),4.3.1) WRITE=$(WRITE) target/debug/soak

cross:
	@scripts/cross.sh $(TARGETS)

deb:
	@scripts/package.sh $(TARGETS)

cross-test:
	@scripts/cross-test.sh $(TARGETS)

bench:
	@scripts/setup.sh test
	@scripts/setup.sh telegraf
	cargo build --release -p tidegate
	. scripts/versions.sh && BENCH_TELEGRAF=$$telegraf_program cargo run --release -p tidegate-bench -- $(ARGS)

simulate:
	@scripts/setup.sh build
	SEEDS=$(or $(SEEDS),2000) FROM=$(FROM) SEED=$(SEED) cargo test --workspace --locked --lib simulator::every -- --nocapture
