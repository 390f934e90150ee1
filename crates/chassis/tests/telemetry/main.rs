//! Telemetry over real sockets: spans, measurements and log lines of calls that pass from service to service.
//!
//! A process has one telemetry, so the tests with export share one set-up and tell their spans apart by trace id; those about
//! telemetry that is off or whose collector is dead use a scoped one.
#![allow(clippy::unwrap_used, clippy::panic, clippy::disallowed_methods)]
mod calls;
mod context;
mod echo;
mod lines;
