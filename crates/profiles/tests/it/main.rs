//! The service over a real server and a real database, as its callers see it.
#![allow(clippy::unwrap_used, clippy::panic, reason = "a test that cannot go on should say so loudly")]

mod create;
mod ensure;
mod follow;
mod introduced;
mod list;
mod nonsense;
mod peers;
mod read;
mod support;
mod update;
mod watch;
