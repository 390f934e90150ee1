//! Journeys across all services, over real sockets and real processes.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    reason = "a test that cannot go on should say so loudly"
)]
mod access;
mod analyst;
mod cli;
mod commands;
mod edge;
mod export;
mod import;
mod journey;
mod kill;
mod nonsense;
mod report;
mod rpc_coverage;
mod split;
mod terminal;
mod trace;

/// The program, built with these tests.
const PROGRAM: &str = env!("CARGO_BIN_EXE_clientele-under-test");
