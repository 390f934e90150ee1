//! Compiles `proto/` with protox (no protoc to install) into Rust types and one descriptor set for reflection.
use std::{env, error::Error, fs, path::PathBuf};

use prost::Message;

#[allow(clippy::disallowed_methods, reason = "this is how cargo tells a build script where things are")]
fn main() -> Result<(), Box<dyn Error>> {
    let root = PathBuf::from(env::var("CARGO_MANIFEST_DIR")?).join("../../proto");
    println!("cargo:rerun-if-changed={}", root.display());
    let files = [
        "clientele/common/v1/error_reason.proto",
        "clientele/common/v1/feed.proto",
        "clientele/common/v1/money.proto",
        "clientele/complaints/v1/complaints.proto",
        "clientele/profiles/v1/profiles.proto",
        "clientele/routing/v1/routing.proto",
        "clientele/scoring/v1/figures.proto",
        "clientele/scoring/v1/loyalty.proto",
        "clientele/scoring/v1/models.proto",
        "clientele/scoring/v1/scoring.proto",
        "clientele/scoring/v1/segments.proto",
        "clientele/scoring/v1/standing.proto",
        "clientele/scoring/v1/transitions.proto",
    ];
    let descriptors = protox::compile(files, [&root])?;
    let out = PathBuf::from(env::var("OUT_DIR")?);
    fs::write(out.join("descriptors.bin"), descriptors.encode_to_vec())?;
    tonic_prost_build::configure().compile_fds(descriptors)?;
    Ok(())
}
