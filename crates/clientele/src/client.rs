//! Calls the public API for the client commands and the demo, and turns its errors into sentences.
use std::{collections::BTreeMap, fmt, time::Duration};

use chassis::peers::{Access, Channel};
use proto::{
    complaints::v1::complaints_client::ComplaintsClient, profiles::v1::profiles_client::ProfilesClient,
    routing::v1::routing_client::RoutingClient, scoring::v1::scoring_client::ScoringClient,
};
use tonic::{Code, Request, Status};
use tonic_health::pb::health_client::HealthClient;
use tonic_types::StatusExt;

/// The services, in the order in which they are listed everywhere.
pub const SERVICES: [&str; 4] = ["profiles", "scoring", "routing", "complaints"];
/// Where the services are unless told otherwise.
pub const DEFAULT_SERVER: &str = "http://127.0.0.1:7100";
/// How long a client command waits for one answer, unless it waits for an operation.
const CALL_TIMEOUT: Duration = Duration::from_secs(30);
/// Largest answer a client takes; the server's own limit.
const MAX_MESSAGE_BYTES: usize = chassis::server::MAX_MESSAGE_BYTES;

/// An error to be shown to a person.
#[derive(Debug)]
pub struct Error(String);

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl std::error::Error for Error {}

impl Error {
    /// What went wrong and what to do next.
    pub fn new(message: impl Into<String>) -> Self {
        Self(message.into())
    }
}

impl From<chassis::Error> for Error {
    fn from(error: chassis::Error) -> Self {
        Self(error.to_string())
    }
}

impl From<std::io::Error> for Error {
    fn from(error: std::io::Error) -> Self {
        Self(error.to_string())
    }
}

impl From<Status> for Error {
    fn from(status: Status) -> Self {
        let mut text = match status.code() {
            // tonic's own word for a connection that did not come about.
            Code::Unavailable if status.get_details_error_info().is_none() => {
                "no answer from the server; is it running? Start it with `clientele serve` or `clientele demo`, or name it with \
                 --server URL"
                    .to_owned()
            }
            Code::Unimplemented => {
                "this server does not run the service that was asked; name the one that does with --server NAME=URL".to_owned()
            }
            // The server says what it wants; here is how a command gives it.
            Code::Unauthenticated => format!("{}\n  Give the token in CLIENTELE_TOKEN, or as --token TOKEN", status.message()),
            _ if broke_off(&status) => "the connection broke before the answer came; whether the call took effect is not known".to_owned(),
            _ => status.message().to_owned(),
        };
        let details = status.get_error_details();
        if let Some(bad) = details.bad_request() {
            // Most often the message says it already.
            for violation in
                bad.field_violations.iter().filter(|violation| !status.message().contains(&violation.description))
            {
                text.push_str(&format!("\n  {}: {}", violation.field, violation.description));
            }
        }
        if let Some(info) = details.error_info() {
            text.push_str(&format!("\n  ({:?}, {})", status.code(), info.reason));
            text.push_str(next_step(&info.reason));
        }
        Self(text)
    }
}

/// The reason of an error for programs; empty where it has none.
pub(crate) fn reason_of(status: &Status) -> String {
    status.get_details_error_info().map(|info| info.reason).unwrap_or_default()
}

/// An error on one line of a page: what the service said, and what to type next.
pub(crate) fn sentence(status: &Status) -> String {
    format!("{}.{}", status.message(), next_step(&reason_of(status)).replace("\n ", ""))
}

/// What to type next, where an error has one answer: the service speaks to programs and names calls.
pub(crate) fn next_step(reason: &str) -> &'static str {
    match reason {
        "NO_MODEL" => "\n  Run `clientele fit`, and then `clientele rank`.",
        "NO_RANKING" => "\n  Run `clientele rank`.",
        "NOT_FITTABLE" => "\n  Import more purchases (`clientele import purchases --help`), or fit up to another day.",
        "CURSOR_UNKNOWN" | "CURSOR_TOO_OLD" => "\n  Run it again without --cursor.",
        _ => "",
    }
}

/// Shorthand.
pub type Result<T, E = Error> = std::result::Result<T, E>;

/// The clients of all services.
#[derive(Clone, Debug)]
pub struct Client {
    channels: BTreeMap<&'static str, Channel>,
}

/// The service and its URL, where `--server` names one.
pub fn named(server: &str) -> Option<(&'static str, &str)> {
    let (name, url) = server.split_once('=')?;
    Some((SERVICES.into_iter().find(|service| *service == name)?, url))
}

impl Client {
    /// Clients for `servers`: one URL for all services, or `NAME=URL` for one of them; later ones win.
    ///
    /// # Errors
    /// A value that is neither.
    pub fn new(servers: &[String]) -> Result<Self> {
        Self::with(servers, &Access::default())
    }

    /// The same with a token to present, or an authority to trust.
    ///
    /// # Errors
    /// A value that is neither; a token that cannot be sent.
    pub fn with(servers: &[String], access: &Access) -> Result<Self> {
        let mut urls: BTreeMap<&str, &str> = BTreeMap::new();
        for server in servers {
            match named(server) {
                Some((name, url)) => {
                    urls.insert(name, url);
                }
                None => urls.extend(SERVICES.map(|name| (name, server.as_str()))),
            }
        }
        let mut channels = BTreeMap::new();
        for name in SERVICES {
            let url = urls.get(name).copied().unwrap_or(DEFAULT_SERVER);
            channels.insert(name, access.channel("--server", url)?);
        }
        Ok(Self { channels })
    }

    fn channel(&self, name: &'static str) -> Channel {
        self.channels[name].clone()
    }

    /// Health of one service, or of all that run in the server's process.
    pub fn health(&self, name: Option<&'static str>) -> HealthClient<Channel> {
        HealthClient::new(self.channel(name.unwrap_or(SERVICES[0])))
    }

    /// Client of profiles.
    pub fn profiles(&self) -> ProfilesClient<Channel> {
        ProfilesClient::new(self.channel("profiles")).max_decoding_message_size(MAX_MESSAGE_BYTES)
    }

    /// Client of scoring.
    pub fn scoring(&self) -> ScoringClient<Channel> {
        ScoringClient::new(self.channel("scoring")).max_decoding_message_size(MAX_MESSAGE_BYTES)
    }

    /// Client of routing.
    pub fn routing(&self) -> RoutingClient<Channel> {
        RoutingClient::new(self.channel("routing")).max_decoding_message_size(MAX_MESSAGE_BYTES)
    }

    /// Client of complaints.
    pub fn complaints(&self) -> ComplaintsClient<Channel> {
        ComplaintsClient::new(self.channel("complaints")).max_decoding_message_size(MAX_MESSAGE_BYTES)
    }
}

/// A request with the usual deadline.
pub fn request<T>(message: T) -> Request<T> {
    request_within(message, CALL_TIMEOUT)
}

/// A request with a deadline of its own.
pub fn request_within<T>(message: T, timeout: Duration) -> Request<T> {
    let mut request = Request::new(message);
    request.set_timeout(timeout);
    request
}

/// A request id that is new each time.
pub fn new_request_id() -> String {
    chassis::Ids::new(chassis::Clock::system()).next().to_string()
}

/// Whether the same call may succeed when sent again a little later.
pub fn is_passing(status: &Status) -> bool {
    matches!(status.code(), Code::Unavailable | Code::ResourceExhausted | Code::Aborted | Code::DeadlineExceeded)
        || broke_off(status)
}

/// Whether the connection broke under the call, as when the server is killed: whether it took effect is not known.
pub fn broke_off(status: &Status) -> bool {
    matches!(status.code(), Code::Unknown | Code::Internal | Code::Cancelled)
        && std::error::Error::source(status).is_some()
}
