//! Compiles `proto/` with protox (no protoc to install) into Rust types and one descriptor set for reflection.
use std::{env, error::Error, fs, path::PathBuf};

use prost::Message;
use prost_build::{Service, ServiceGenerator};

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
    let services = Services {
        clients: tonic_prost_build::configure().build_server(false).service_generator(),
        servers: tonic_prost_build::configure().build_client(false).service_generator(),
    };
    prost_build::Config::new().service_generator(Box::new(services)).compile_fds(descriptors)?;
    Ok(())
}

/// Answers that a server may send as `Prepared`. Clients receive them as any other.
const PREPARED: [&str; 5] = [
    ".clientele.routing.v1.DecideResponse",
    ".clientele.complaints.v1.WatchComplaintsResponse",
    ".clientele.profiles.v1.WatchCustomersResponse",
    ".clientele.routing.v1.WatchContactsResponse",
    ".clientele.scoring.v1.WatchScoresResponse",
];

/// Clients and servers, generated apart since what they have for an answer may differ.
struct Services {
    clients: Box<dyn ServiceGenerator>,
    servers: Box<dyn ServiceGenerator>,
}

impl ServiceGenerator for Services {
    fn generate(&mut self, mut service: Service, code: &mut String) {
        self.clients.generate(service.clone(), code);
        for method in &mut service.methods {
            if PREPARED.contains(&method.output_proto_type.as_str()) {
                let package = service.package.replace('.', "::");
                // The modules of this crate are those of the packages, without the first.
                let module = package.trim_start_matches("clientele::");
                method.output_type = format!("crate::Prepared<crate::{module}::{}>", method.output_type);
            }
        }
        self.servers.generate(service, code);
    }

    fn finalize(&mut self, code: &mut String) {
        self.clients.finalize(code);
        self.servers.finalize(code);
    }

    fn finalize_package(&mut self, package: &str, code: &mut String) {
        self.clients.finalize_package(package, code);
        self.servers.finalize_package(package, code);
    }
}
