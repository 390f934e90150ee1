//! The one program: it serves, and it is a client of what it serves.
//!
//! | to change … | open |
//! | --- | --- |
//! | commands and their flags | [`cli`] |
//! | configuration as a whole | [`config`] |
//! | how services are started | [`serve`] |
//! | who may have a data folder | [`folder`] |
//! | what is measured | [`bench`] |
//! | what the demo shows | [`demo`] |
//! | how files are imported, written, made up | [`import`], [`export`], [`generate`] |
//! | how a file is written whole or not at all | [`output`] |
//! | how a long command says how far it is | [`progress`] |
//! | what the page of charts shows | [`report`] |
//! | how answers look | [`view`] |
//! | how the public API is called | [`client`] |
pub mod bench;
pub mod cli;
pub mod client;
pub mod commands;
pub mod config;
pub mod demo;
pub mod export;
pub mod folder;
pub mod generate;
pub mod import;
pub mod output;
pub mod progress;
pub mod report;
pub mod serve;
pub mod view;

use std::{
    io::{self, Write},
    process::ExitCode,
};

/// Runs the program with this process's arguments.
pub fn main() -> ExitCode {
    let runtime = match tokio::runtime::Builder::new_multi_thread().enable_all().build() {
        Ok(runtime) => runtime,
        Err(error) => return fail(&format!("cannot start the runtime: {error}")),
    };
    let result = runtime.block_on(cli::run());
    // Blocking work that is left (a fit cut off by Ctrl-C) must not keep the process.
    runtime.shutdown_background();
    match result {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => fail(&error.to_string()),
    }
}

fn fail(message: &str) -> ExitCode {
    // What came from a file may be anything, and a terminal obeys control characters.
    let harmless = message.replace(|c: char| c.is_control() && c != '\n', "\u{fffd}");
    let _ = writeln!(io::stderr(), "error: {harmless}");
    ExitCode::FAILURE
}
