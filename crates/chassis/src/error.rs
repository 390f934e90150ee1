//! The errors that every service shares, and their one mapping to a gRPC status.
//!
//! Few codes, a machine-readable reason (`clientele.common.v1.ErrorReason`) in every one, and details where a caller can act on
//! them. No value of a field is ever repeated: it could be personal.
use std::{fmt, time::Duration};

use proto::common::v1::ErrorReason;
use sea_orm::{DbErr, RuntimeErr, SqlErr};
use tonic::{Code, Status};
use tonic_types::{ErrorDetails, StatusExt};

use crate::server::error_log::Cause;

/// Shorthand for results with the shared error.
pub type Result<T, E = Error> = std::result::Result<T, E>;

/// When to come again after load was shed or a race was lost: long enough for a burst to pass, short for a person.
pub const RETRY_SOON: Duration = Duration::from_millis(200);
/// When to come again after a peer or the database was away: about as long as a restart takes.
pub const RETRY_LATER: Duration = Duration::from_secs(2);

/// A field of a request and what is wrong with it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Violation {
    /// Full path, for example `purchases[3].amount.currency_code`.
    pub field: String,
    /// What was wrong and what is allowed.
    pub message: String,
}

/// An error that any service can give. `Debug` is what it says, with all its causes: what the database adds to an error beyond its message can
/// hold the values of a row, and does not belong in a log.
#[derive(thiserror::Error)]
pub enum Error {
    /// Fields are malformed; at least one.
    #[error("{}", list(.0))]
    Invalid(Vec<Violation>),
    /// The page token was not given out by this list with this filter.
    #[error("page_token: not given out by this list with this filter and order; start again without it")]
    PageToken,
    /// The request id came before with another body.
    #[error("request_id: used before with another body; take a new one for a new request")]
    RequestIdReused,
    /// There is no such thing.
    #[error("{what} not found")]
    NotFound {
        /// Kind of thing, in the words of the domain.
        what: &'static str,
        /// Its id, if that says nothing about a person.
        id: String,
    },
    /// There is one already.
    #[error("{what} exists already")]
    AlreadyExists {
        /// Kind of thing.
        what: &'static str,
        /// Id of the one that exists, if that says nothing about a person.
        id: String,
    },
    /// The etag is not the current one.
    #[error("etag: not the current one of this {what}; read it again and decide again")]
    Etag {
        /// Kind of thing.
        what: &'static str,
    },
    /// The state does not allow it.
    #[error("{what} is {state}: {rule}")]
    WrongState {
        /// Kind of thing.
        what: &'static str,
        /// The state it is in.
        state: String,
        /// The rule, with what is allowed.
        rule: String,
    },
    /// Any other failed precondition with a reason of its own.
    #[error("{message}")]
    Precondition {
        /// The reason.
        reason: ErrorReason,
        /// What is missing and what to do.
        message: String,
    },
    /// The cursor is older than what the feed keeps.
    #[error("cursor: older than what this feed keeps; start again with an empty cursor (a snapshot)")]
    CursorTooOld,
    /// The cursor belongs to another feed or database.
    #[error("cursor: not of this feed; start again with an empty cursor (a snapshot)")]
    CursorUnknown,
    /// Load was shed.
    #[error("overloaded ({0}): come again in a moment")]
    Overloaded(&'static str),
    /// A peer did not answer.
    #[error("{0} does not answer: come again in a moment")]
    Peer(&'static str),
    /// The service is draining or not ready yet.
    #[error("{0} is not serving (starting or draining): come again in a moment")]
    NotServing(&'static str),
    /// A service cannot start.
    #[error(
        "{service} cannot start: {cause}\n  Its database is named by {service}.database_url, or lies in data_dir; is it there, and may we write to it?"
    )]
    Start {
        /// The service.
        service: &'static str,
        /// Why, with all causes.
        cause: String,
    },
    /// The caller did not say who it is, or is not known.
    #[error(
        "authorization: {0}; send the metadata `authorization: Bearer TOKEN`, where TOKEN is the one whose hash stands in the server's auth.callers"
    )]
    Unauthenticated(&'static str),
    /// A client that streams sent nothing for so long.
    #[error(
        "the client sent nothing for {} s, and its stream was ended: what it sent before is done, but was not acknowledged; send it again in \
         a new stream",
        .0.as_secs_f64()
    )]
    ClientIdle(Duration),
    /// The deadline passed.
    #[error("deadline exceeded: the call may still have taken effect; send it again with the same request_id")]
    Deadline,
    /// The database said no.
    #[error("database error")]
    Database(#[from] DbErr),
    /// A fault of ours.
    #[error("internal error: {0}")]
    Internal(String),
}

impl fmt::Debug for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(&Chain(self), f)
    }
}

fn list(violations: &[Violation]) -> String {
    let mut text = String::new();
    for violation in violations {
        if !text.is_empty() {
            text.push_str("; ");
        }
        text.push_str(&violation.field);
        text.push_str(": ");
        text.push_str(&violation.message);
    }
    text
}

/// What a service's own error type must tell the chassis.
pub trait Fault: From<Error> + fmt::Debug + Send {
    /// The shared error inside, if it is one: decides whether a transaction runs again.
    fn shared(&self) -> Option<&Error>;
}

impl Fault for Error {
    fn shared(&self) -> Option<&Error> {
        Some(self)
    }
}

impl Error {
    /// One malformed field.
    pub fn invalid(field: impl Into<String>, message: impl Into<String>) -> Self {
        Self::Invalid(vec![Violation { field: field.into(), message: message.into() }])
    }

    /// There is no such thing.
    pub fn not_found(what: &'static str, id: impl fmt::Display) -> Self {
        Self::NotFound { what, id: id.to_string() }
    }

    /// The machine-readable reason.
    pub fn reason(&self) -> ErrorReason {
        match self {
            Self::Invalid(_) => ErrorReason::InvalidField,
            Self::PageToken => ErrorReason::PageTokenMismatch,
            Self::RequestIdReused => ErrorReason::RequestIdReused,
            Self::NotFound { .. } => ErrorReason::NotFound,
            Self::AlreadyExists { .. } => ErrorReason::AlreadyExists,
            Self::Etag { .. } => ErrorReason::EtagMismatch,
            Self::WrongState { .. } => ErrorReason::WrongState,
            Self::Precondition { reason, .. } => *reason,
            Self::CursorTooOld => ErrorReason::CursorTooOld,
            Self::CursorUnknown => ErrorReason::CursorUnknown,
            Self::Overloaded(_) => ErrorReason::Overloaded,
            Self::Peer(_) => ErrorReason::PeerUnavailable,
            Self::NotServing(_) => ErrorReason::Draining,
            Self::Unauthenticated(_) => ErrorReason::Unauthenticated,
            Self::ClientIdle(_) => ErrorReason::ClientIdle,
            Self::Deadline => ErrorReason::DeadlineExceeded,
            Self::Database(error) => match kind_of(error) {
                DbFault::Retry => ErrorReason::Contention,
                DbFault::Away => ErrorReason::DatabaseUnavailable,
                DbFault::Bug => ErrorReason::Internal,
            },
            Self::Internal(_) | Self::Start { .. } => ErrorReason::Internal,
        }
    }

    fn code(&self) -> Code {
        match self.reason() {
            ErrorReason::InvalidField
            | ErrorReason::PageTokenMismatch
            | ErrorReason::RequestIdReused
            | ErrorReason::CursorUnknown
            | ErrorReason::CustomerUnknown
            | ErrorReason::PurchaseInFuture
            | ErrorReason::CurrencyMismatch
            | ErrorReason::AmountTooLarge => Code::InvalidArgument,
            ErrorReason::NotFound => Code::NotFound,
            ErrorReason::AlreadyExists => Code::AlreadyExists,
            ErrorReason::EtagMismatch | ErrorReason::Contention => Code::Aborted,
            ErrorReason::WrongState | ErrorReason::NoModel | ErrorReason::NotFittable | ErrorReason::NoRanking => {
                Code::FailedPrecondition
            }
            ErrorReason::CursorTooOld => Code::OutOfRange,
            ErrorReason::Overloaded => Code::ResourceExhausted,
            ErrorReason::PeerUnavailable | ErrorReason::DatabaseUnavailable | ErrorReason::Draining => {
                Code::Unavailable
            }
            ErrorReason::Unauthenticated => Code::Unauthenticated,
            ErrorReason::ClientIdle | ErrorReason::DeadlineExceeded => Code::DeadlineExceeded,
            ErrorReason::Internal | ErrorReason::Unspecified => Code::Internal,
        }
    }

    /// Whether running the same transaction again can succeed: a race was lost, nothing is wrong.
    pub fn is_race(&self) -> bool {
        matches!(self, Self::Database(error) if kind_of(error) == DbFault::Retry)
    }

    /// Whether the database is away or full rather than the request wrong.
    pub fn is_outage(&self) -> bool {
        matches!(self, Self::Database(error) if kind_of(error) == DbFault::Away)
    }
}

impl From<Error> for Status {
    fn from(error: Error) -> Self {
        let reason = error.reason();
        let code = error.code();
        let mut details = ErrorDetails::new();
        details.set_error_info(
            reason.as_str_name().trim_start_matches("ERROR_REASON_"),
            "clientele",
            std::collections::HashMap::new(),
        );
        let message = match &error {
            Error::Invalid(violations) => {
                for violation in violations {
                    details.add_bad_request_violation(&violation.field, &violation.message);
                }
                error.to_string()
            }
            Error::PageToken => {
                details.add_bad_request_violation("page_token", error.to_string());
                error.to_string()
            }
            Error::RequestIdReused => {
                details.add_bad_request_violation("request_id", error.to_string());
                error.to_string()
            }
            Error::CursorUnknown => {
                details.add_bad_request_violation("cursor", error.to_string());
                error.to_string()
            }
            Error::NotFound { what, id } | Error::AlreadyExists { what, id } => {
                details.set_resource_info(*what, id, "", error.to_string());
                error.to_string()
            }
            Error::WrongState { what, state, rule } => {
                details.add_precondition_failure_violation("STATE", format!("{what}: {state}"), rule);
                error.to_string()
            }
            Error::Overloaded(_) => {
                details.set_retry_info(Some(RETRY_SOON));
                error.to_string()
            }
            Error::Peer(_) | Error::NotServing(_) => {
                details.set_retry_info(Some(RETRY_LATER));
                error.to_string()
            }
            Error::Database(cause) => match kind_of(cause) {
                DbFault::Retry => {
                    details.set_retry_info(Some(RETRY_SOON));
                    "other writers were faster several times: send it again".to_owned()
                }
                DbFault::Away => {
                    Cause { code, what: "database unavailable", chain: Chain(cause).to_string() }.leave();
                    details.set_retry_info(Some(RETRY_LATER));
                    "the database does not answer or is full: come again in a moment".to_owned()
                }
                DbFault::Bug => internal(Chain(cause).to_string()),
            },
            Error::Internal(cause) | Error::Start { cause, .. } => internal(cause.clone()),
            Error::Etag { .. }
            | Error::Precondition { .. }
            | Error::CursorTooOld
            | Error::Unauthenticated(_)
            | Error::ClientIdle(_)
            | Error::Deadline => error.to_string(),
        };
        Status::with_error_details(code, message, details)
    }
}

/// Outward goes a fixed text; the server's error log has the chain.
fn internal(chain: String) -> String {
    Cause { code: Code::Internal, what: "internal error", chain }.leave();
    "internal error: the log has the cause under this call's trace id".to_owned()
}

/// An error with all its causes on one line.
struct Chain<'a>(&'a (dyn std::error::Error + 'static));

impl fmt::Display for Chain<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.0)?;
        let mut cause = self.0.source();
        while let Some(inner) = cause {
            write!(f, ": {inner}")?;
            cause = inner.source();
        }
        Ok(())
    }
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum DbFault {
    /// A race was lost: serialization failure, deadlock, busy lock, or two inserts of the same key.
    Retry,
    /// The database cannot be reached, shuts down, or its disk is full.
    Away,
    /// Everything else is a bug of ours.
    Bug,
}

fn kind_of(error: &DbErr) -> DbFault {
    // A handler looks before it inserts, so a duplicate key means that somebody else inserted in between; run again, it sees it.
    if matches!(error.sql_err(), Some(SqlErr::UniqueConstraintViolation(_))) {
        return DbFault::Retry;
    }
    match error {
        DbErr::ConnectionAcquire(_) => DbFault::Away,
        DbErr::Conn(inner) | DbErr::Exec(inner) | DbErr::Query(inner) => {
            let RuntimeErr::SqlxError(inner) = inner else { return DbFault::Bug };
            match &**inner {
                sqlx::Error::Database(database) => {
                    kind_of_code(&database.code().unwrap_or_default(), database.as_ref())
                }
                sqlx::Error::Io(_)
                | sqlx::Error::Tls(_)
                | sqlx::Error::PoolTimedOut
                | sqlx::Error::PoolClosed
                | sqlx::Error::WorkerCrashed => DbFault::Away,
                _ => DbFault::Bug,
            }
        }
        _ => DbFault::Bug,
    }
}

fn kind_of_code(code: &str, database: &dyn sqlx::error::DatabaseError) -> DbFault {
    if database.try_downcast_ref::<sqlx::postgres::PgDatabaseError>().is_some() {
        return match code {
            // serialization_failure, deadlock_detected, lock_not_available
            "40001" | "40P01" | "55P03" => DbFault::Retry,
            // query_canceled: our statement timeout
            "57014" => DbFault::Away,
            // 08 connection, 53 resources (disk_full …), 57P admin shutdown, cannot connect now; 25006 read-only after a
            // fail-over; 25P03 cut off because the transaction lay idle
            _ if code.starts_with("08")
                || code.starts_with("53")
                || code.starts_with("57P")
                || code == "25006"
                || code == "25P03" =>
            {
                DbFault::Away
            }
            _ => DbFault::Bug,
        };
    }
    // SQLite's extended result code carries the primary one in its low byte.
    match code.parse::<i32>().map(|code| code & 0xff) {
        // SQLITE_BUSY, SQLITE_LOCKED
        Ok(5 | 6) => DbFault::Retry,
        // SQLITE_READONLY, SQLITE_IOERR, SQLITE_FULL, SQLITE_CANTOPEN
        Ok(8 | 10 | 13 | 14) => DbFault::Away,
        _ => DbFault::Bug,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_error_has_its_code_and_names_its_reason() {
        let cases = [
            (
                Error::invalid("name", "is empty; 1 to 10 characters are allowed"),
                Code::InvalidArgument,
                "INVALID_FIELD",
            ),
            (Error::PageToken, Code::InvalidArgument, "PAGE_TOKEN_MISMATCH"),
            (Error::RequestIdReused, Code::InvalidArgument, "REQUEST_ID_REUSED"),
            (Error::not_found("customer", "x"), Code::NotFound, "NOT_FOUND"),
            (Error::AlreadyExists { what: "queue", id: "vip".into() }, Code::AlreadyExists, "ALREADY_EXISTS"),
            (Error::Etag { what: "queue" }, Code::Aborted, "ETAG_MISMATCH"),
            (
                Error::WrongState { what: "complaint", state: "closed".into(), rule: "reopen it".into() },
                Code::FailedPrecondition,
                "WRONG_STATE",
            ),
            (
                Error::Precondition { reason: ErrorReason::NoModel, message: "fit first".into() },
                Code::FailedPrecondition,
                "NO_MODEL",
            ),
            (Error::CursorTooOld, Code::OutOfRange, "CURSOR_TOO_OLD"),
            (Error::CursorUnknown, Code::InvalidArgument, "CURSOR_UNKNOWN"),
            (Error::Overloaded("queue"), Code::ResourceExhausted, "OVERLOADED"),
            (Error::Peer("scoring"), Code::Unavailable, "PEER_UNAVAILABLE"),
            (Error::NotServing("scoring"), Code::Unavailable, "DRAINING"),
            (Error::Unauthenticated("who?"), Code::Unauthenticated, "UNAUTHENTICATED"),
            (Error::ClientIdle(Duration::from_secs(1)), Code::DeadlineExceeded, "CLIENT_IDLE"),
            (Error::Deadline, Code::DeadlineExceeded, "DEADLINE_EXCEEDED"),
            (Error::Database(DbErr::Custom("broken".into())), Code::Internal, "INTERNAL"),
            (Error::Internal("secret".into()), Code::Internal, "INTERNAL"),
            (Error::Start { service: "scoring", cause: "secret".into() }, Code::Internal, "INTERNAL"),
        ];
        for (error, code, reason) in cases {
            let status = Status::from(error);
            assert_eq!(status.code(), code, "{status:?}");
            let info = status.get_details_error_info().unwrap();
            assert_eq!((info.reason.as_str(), info.domain.as_str()), (reason, "clientele"));
            assert!(!status.message().contains("secret") && !status.message().contains("broken"));
        }
    }

    #[test]
    fn a_malformed_request_names_every_field() {
        let status = Status::from(Error::Invalid(vec![
            Violation { field: "a.b".into(), message: "is empty".into() },
            Violation { field: "c[1]".into(), message: "is negative".into() },
        ]));
        let fields: Vec<_> =
            status.get_details_bad_request().unwrap().field_violations.into_iter().map(|v| v.field).collect();
        assert_eq!(fields, ["a.b", "c[1]"]);
    }
}
