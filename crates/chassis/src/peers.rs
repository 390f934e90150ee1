//! Calls to the other services: over gRPC always, also when they run in the same process.
//!
//! A channel carries the trace, our token and what is left of the caller's deadline, and balances over all addresses behind a name, looking them up anew
//! as replicas come and go.
use std::{
    collections::{BTreeMap, HashMap, HashSet},
    future::Future,
    net::{IpAddr, SocketAddr},
    pin::Pin,
    sync::Arc,
    task::Poll,
    time::{Duration, Instant},
};

use http::{HeaderValue, header::AUTHORIZATION};
use tonic::{
    body::Body,
    transport::{Certificate, ClientTlsConfig, Endpoint, Uri, channel::Change},
};
use tower::{Layer, Service};

use crate::{
    auth,
    clock::stopwatch,
    config::Secret,
    error::{Error, Result, Violation},
    telemetry,
};

/// How long a connection may take to come up.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(3);
/// How often an idle connection is checked, so that a peer that vanished is noticed.
const KEEP_ALIVE: Duration = Duration::from_secs(10);
/// How often a name is looked up again.
const RESOLVE: Duration = Duration::from_secs(5);

tokio::task_local! {
    /// When the caller of the call being served stops waiting.
    static DEADLINE: Option<Instant>;
}

/// Polls a stream's answer with its call's deadline, as [`with_deadline`] runs a handler.
pub(crate) fn poll_with_deadline<T>(deadline: Option<Instant>, poll: impl FnOnce() -> T) -> T {
    DEADLINE.sync_scope(deadline, poll)
}

/// Runs a call's handler with its deadline, which [`Channel`] passes on.
pub(crate) async fn with_deadline<F: Future>(deadline: Option<Instant>, call: F) -> F::Output {
    DEADLINE.scope(deadline, call).await
}

/// What is left of the deadline of the call being served; absent where there is none.
pub fn time_left() -> Option<Duration> {
    let deadline = DEADLINE.try_with(|deadline| *deadline).ok().flatten()?;
    Some(deadline.saturating_duration_since(stopwatch()))
}

/// A channel to one peer, as the generated clients take it.
pub type Channel = <telemetry::ClientLayer as Layer<Outgoing>>::Service;

/// The channels to all peers, by the service's name.
#[derive(Clone, Debug, Default)]
pub struct Peers(Arc<HashMap<String, Channel>>);

impl Peers {
    /// Peers by their channels.
    pub fn new(channels: HashMap<String, Channel>) -> Self {
        Self(Arc::new(channels))
    }

    /// Opens a channel to each URL (`http://host:port` or `https://…`), without waiting for the peer to be there.
    ///
    /// # Errors
    /// `Invalid` naming `peers.NAME` for a URL that is none.
    pub fn connect(urls: &BTreeMap<String, String>, access: &Access) -> Result<Self> {
        let channels =
            urls.iter().map(|(name, url)| Ok((name.clone(), access.channel(&format!("peers.{name}"), url)?)));
        Ok(Self::new(channels.collect::<Result<_>>()?))
    }

    /// Demands that all of these are configured.
    ///
    /// # Errors
    /// `Invalid` naming each `peers.NAME` that is not.
    pub fn require(&self, names: &[&str]) -> Result<()> {
        let missing: Vec<_> =
            names.iter().filter(|name| !self.0.contains_key(**name)).map(|name| missing(name)).collect();
        if missing.is_empty() { Ok(()) } else { Err(Error::Invalid(missing)) }
    }

    /// The channel to a peer.
    ///
    /// # Errors
    /// `Invalid` naming `peers.NAME` where none is configured.
    pub fn channel(&self, name: &'static str) -> Result<Channel> {
        self.0.get(name).cloned().ok_or_else(|| Error::Invalid(vec![missing(name)]))
    }
}

fn missing(name: &str) -> Violation {
    let message = "is not set, and it does not run in this process; give its URL";
    Violation { field: format!("peers.{name}"), message: message.to_owned() }
}

/// What peers are reached with, besides their URLs.
#[derive(Clone, Debug, Default)]
pub struct Access {
    /// PEM of the authority that signs the peers' certificates, for https; public authorities are known.
    pub ca: Option<String>,
    /// Presented as bearer token with every call; empty presents none.
    pub token: Secret,
}

impl Access {
    /// Opens a channel to any URL, without waiting.
    ///
    /// # Errors
    /// `Invalid` naming `field` for a URL that is none or a token that cannot be sent.
    pub fn channel(&self, field: &str, url: &str) -> Result<Channel> {
        self.open(field, url, None)
    }

    /// The same at an address that is known: the URL's host is then only what the certificate must be for.
    ///
    /// # Errors
    /// As [`Access::channel`].
    pub fn channel_at(&self, field: &str, url: &str, address: SocketAddr) -> Result<Channel> {
        self.open(field, url, Some(address))
    }

    fn open(&self, field: &str, url: &str, address: Option<SocketAddr>) -> Result<Channel> {
        let token = self.token.expose();
        let authorization = if token.is_empty() {
            None
        } else {
            let unsound = || Error::invalid("--token", "must be 16 to 512 visible ASCII characters");
            Some(auth::bearer(token).ok_or_else(unsound)?)
        };
        let inner = open(field, url, self.ca.as_deref(), address)?;
        Ok(telemetry::ClientLayer::new().layer(Outgoing { inner, authorization }))
    }
}

/// Opens a channel to any URL, without waiting and without a token. `ca` is the PEM of an authority to trust besides the public ones.
///
/// # Errors
/// `Invalid` naming `field` for a URL that is none.
pub fn channel(field: &str, url: &str, ca: Option<&str>) -> Result<Channel> {
    Access { ca: ca.map(str::to_owned), ..Access::default() }.channel(field, url)
}

fn open(field: &str, url: &str, ca: Option<&str>, address: Option<SocketAddr>) -> Result<tonic::transport::Channel> {
    let not_a_url = || Error::invalid(field, "is not a URL such as http://127.0.0.1:7100");
    let not_url = |_: tonic::transport::Error| not_a_url();
    let uri: Uri = url.parse().map_err(|_| not_a_url())?;
    let Some(host) = uri.host().map(|host| host.trim_matches(['[', ']']).to_owned()) else {
        return Err(not_a_url());
    };
    let https = uri.scheme_str() == Some("https");
    if !https && uri.scheme_str() != Some("http") {
        return Err(Error::invalid(field, "must start with http:// or https://"));
    }
    let port = uri.port_u16().unwrap_or(if https { 443 } else { 80 });
    let tls = https.then(|| {
        let tls = ClientTlsConfig::new().with_webpki_roots().domain_name(host.clone());
        match ca {
            Some(ca) => tls.ca_certificate(Certificate::from_pem(ca)),
            None => tls,
        }
    });
    // What is wrong with the TLS configuration shows now, not at every look-up.
    let straight = endpoint(&uri, uri.clone(), tls.clone()).map_err(not_url)?;
    Ok(match address {
        Some(address) => {
            endpoint(&uri, at(&uri, address).map_err(|_| not_a_url())?, tls).map_err(not_url)?.connect_lazy()
        }
        None if host.parse::<IpAddr>().is_ok() => straight.connect_lazy(),
        None => balanced(uri, tls, host, port),
    })
}

/// The same URL with an address in place of its name.
fn at(origin: &Uri, address: SocketAddr) -> std::result::Result<Uri, http::Error> {
    let scheme = origin.scheme_str().unwrap_or("http");
    Uri::builder().scheme(scheme).authority(address.to_string()).path_and_query("/").build()
}

/// An endpoint at `address` for a peer called `origin`: the name stays the authority, and what certificates are checked against.
fn endpoint(
    origin: &Uri,
    address: Uri,
    tls: Option<ClientTlsConfig>,
) -> std::result::Result<Endpoint, tonic::transport::Error> {
    let endpoint = Endpoint::from(address)
        .origin(origin.clone())
        .connect_timeout(CONNECT_TIMEOUT)
        .http2_keep_alive_interval(KEEP_ALIVE)
        .keep_alive_while_idle(true)
        .tcp_nodelay(true);
    match tls {
        Some(tls) => endpoint.tls_config(tls),
        None => Ok(endpoint),
    }
}

/// One connection to each address behind the name. The look-up goes on until the channel is dropped.
fn balanced(origin: Uri, tls: Option<ClientTlsConfig>, host: String, port: u16) -> tonic::transport::Channel {
    let (channel, changes) = tonic::transport::Channel::balance_channel::<SocketAddr>(64);
    tokio::spawn(async move {
        let mut known = HashSet::new();
        while !changes.is_closed() {
            match tokio::net::lookup_host((host.as_str(), port)).await {
                Ok(addresses) => {
                    let found: HashSet<SocketAddr> = addresses.collect();
                    for gone in known.difference(&found) {
                        let _ = changes.send(Change::Remove(*gone)).await;
                    }
                    for new in found.difference(&known) {
                        let Ok(address) = at(&origin, *new) else { continue };
                        match endpoint(&origin, address, tls.clone()) {
                            Ok(endpoint) => drop(changes.send(Change::Insert(*new, endpoint)).await),
                            Err(error) => tracing::warn!(%host, %error, "peer's address not usable"),
                        }
                    }
                    known = found;
                }
                // The addresses known so far may still be good.
                Err(error) => tracing::debug!(%host, %error, "cannot look the peer up; trying again"),
            }
            tokio::time::sleep(RESOLVE).await;
        }
    });
    channel
}

/// Presents the token, and sets `grpc-timeout` on every call made on behalf of one that has a deadline.
#[derive(Clone, Debug)]
pub struct Outgoing {
    inner: tonic::transport::Channel,
    authorization: Option<HeaderValue>,
}

impl Service<http::Request<Body>> for Outgoing {
    type Response = http::Response<Body>;
    type Error = tonic::transport::Error;
    type Future = Pin<Box<dyn Future<Output = std::result::Result<Self::Response, Self::Error>> + Send>>;

    fn poll_ready(&mut self, context: &mut std::task::Context<'_>) -> Poll<std::result::Result<(), Self::Error>> {
        self.inner.poll_ready(context)
    }

    fn call(&mut self, mut request: http::Request<Body>) -> Self::Future {
        if let Some(left) = time_left()
            && !request.headers().contains_key("grpc-timeout")
            // gRPC allows eight digits.
            && let Ok(value) = HeaderValue::from_str(&format!("{}m", left.as_millis().min(99_999_999)))
        {
            request.headers_mut().insert("grpc-timeout", value);
        }
        if let Some(authorization) = &self.authorization {
            request.headers_mut().insert(AUTHORIZATION, authorization.clone());
        }
        Box::pin(self.inner.call(request))
    }
}

/// Turns what a peer answered into our own answer: whatever kept it from answering, the caller may come again.
pub fn unanswered(peer: &'static str, status: &tonic::Status) -> Error {
    tracing::warn!(peer, code = ?status.code(), "peer did not answer");
    Error::Peer(peer)
}
