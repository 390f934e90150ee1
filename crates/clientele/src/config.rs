//! The whole configuration: one section for the process and one for each service, each with its own commented defaults.
use std::{collections::BTreeMap, net::SocketAddr, path::PathBuf};

use chassis::{
    auth,
    config::{Check, Validate},
    telemetry,
};
use serde::{Deserialize, Serialize};

use crate::client::SERVICES;

/// Every key with its default and a comment, as TOML.
pub fn defaults() -> String {
    [include_str!("../defaults.toml"), profiles::DEFAULTS, scoring::DEFAULTS, routing::DEFAULTS, complaints::DEFAULTS]
        .join("\n")
}

/// The configuration of a process.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Config {
    /// Where SQLite files live.
    pub data_dir: PathBuf,
    /// The server.
    pub server: Server,
    /// Who may call, and who we are to our peers.
    pub auth: auth::Config,
    /// Traces, metrics and logs.
    pub telemetry: telemetry::Config,
    /// URL of each service that this process must reach; empty means in this process.
    pub peers: BTreeMap<String, String>,
    /// The profiles service.
    pub profiles: profiles::Config,
    /// The scoring service.
    pub scoring: scoring::Config,
    /// The routing service.
    pub routing: routing::Config,
    /// The complaints service.
    pub complaints: complaints::Config,
}

/// The server.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Server {
    /// Address and port.
    pub listen: SocketAddr,
    /// PEM file of the certificate; empty means plain text.
    pub tls_cert_file: PathBuf,
    /// PEM file of its key.
    pub tls_key_file: PathBuf,
    /// PEM file of the authority that signs the peers' certificates.
    pub tls_ca_file: PathBuf,
    /// Name in the certificate of this process, by which its services call each other; empty means its address.
    pub tls_server_name: String,
    /// Allows plain text on an address that others can reach.
    pub insecure: bool,
    /// Seconds to go on answering, as not serving, after SIGTERM.
    pub drain_delay_s: u64,
}

impl Validate for Config {
    fn validate(&self, check: &mut Check<'_>) {
        check.require("data_dir", !self.data_dir.as_os_str().is_empty(), "allowed: a folder");
        check.nested("server", &self.server);
        check.nested("auth", &self.auth);
        // Where no peer is elsewhere, this process calls itself.
        let alone = self.peers.values().all(String::is_empty);
        let own = !alone || self.auth.token.is_empty() || self.auth.admits_itself();
        check.require("auth.token", own, NOT_ADMITTED);
        check.nested("telemetry", &self.telemetry);
        for (name, url) in &self.peers {
            let key = format!("peers.{name}");
            check.require(&key, SERVICES.contains(&name.as_str()), "allowed: profiles, scoring, routing, complaints");
            let ok = url.is_empty() || url.starts_with("http://") || url.starts_with("https://");
            check.require(&key, ok, "allowed: empty, or a URL such as http://scoring:7100");
        }
        check.nested("profiles", &self.profiles);
        check.nested("scoring", &self.scoring);
        check.nested("routing", &self.routing);
        check.nested("complaints", &self.complaints);
    }
}

/// Of a process whose services could not call each other.
pub const NOT_ADMITTED: &str = "is not the token of any of auth.callers, so the services of this process could not call each other; name this process \
                                among them";

impl Validate for Server {
    fn validate(&self, check: &mut Check<'_>) {
        check.range("drain_delay_s", self.drain_delay_s, 0..=60);
        let (cert, key) = (!self.tls_cert_file.as_os_str().is_empty(), !self.tls_key_file.as_os_str().is_empty());
        check.require("tls_key_file", cert == key, "allowed: certificate and key both, or neither");
        let name = self.tls_server_name.is_empty() || (cert && !self.tls_server_name.contains(['/', ':', '@', ' ']));
        check.require(
            "tls_server_name",
            name,
            "allowed: empty, or with tls_cert_file a host name such as clientele.example.com",
        );
    }
}
