# Shorthands; each is one command that can be typed without them. `just` lists them.

[private]
default:
    @just --list --unsorted

# Start everything, load real purchases, show what comes of it
demo *args:
    cargo run -- demo {{ args }}

# The whole suite; on PostgreSQL too where CLIENTELE_TEST_POSTGRES_URL names a server
test *args:
    cargo test --workspace {{ args }}

# All that a change must pass, on both databases
ci:
    .ci/run

# Format, and see what clippy and buf say
lint: fmt proto
    cargo clippy --workspace --all-targets -- -D warnings

# Format the code
fmt:
    cargo fmt --all

# Check the contract
proto:
    buf lint proto

# Measure against bare baselines
bench *args:
    cargo run --release -- bench {{ args }}
