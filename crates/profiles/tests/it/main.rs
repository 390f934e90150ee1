//! The service over a real server and a real database, as its callers see it.
#![allow(missing_docs)]

mod create;
mod ensure;
mod follow;
mod list;
mod nonsense;
mod peers;
mod read;
mod support;
mod update;
mod watch;
