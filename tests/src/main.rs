//! The program as it is shipped, for the tests that start, kill and split it. Cargo builds it together with them.
use std::process::ExitCode;

#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

fn main() -> ExitCode {
    clientele::main()
}
