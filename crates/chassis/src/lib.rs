//! What every service stands on, once.
//!
//! | to … | open |
//! | --- | --- |
//! | say who may call | [`auth`] |
//! | read the time or make an id | [`clock`] |
//! | read configuration | [`config`] |
//! | open a database, write in a transaction | [`db`] |
//! | publish changes, serve a `Watch…`, follow one | [`feed`] |
//! | answer with an error | [`error`] |
//! | check a request's fields | [`parse`] |
//! | make a mutation safe to send twice | [`idempotency`] |
//! | page through a list | [`page`] |
//! | call another service | [`peers`] |
//! | mount services on a server | [`server`] |
//! | trace, measure, log | [`telemetry`] |
//! | test a service | [`testing`] |
pub mod auth;
pub mod clock;
pub mod config;
pub mod context;
pub mod db;
pub mod error;
pub mod feed;
pub mod idempotency;
pub mod page;
pub mod parse;
pub mod peers;
pub mod server;
pub mod telemetry;
pub mod testing;

pub use clock::{Clock, Ids};
pub use context::Context;
pub use db::{Db, Tx};
pub use error::{Error, Fault, Result};
pub use server::Service;

/// The two digits of a byte, in lower case.
fn hex(byte: u8) -> [u8; 2] {
    const DIGITS: &[u8; 16] = b"0123456789abcdef";
    [DIGITS[usize::from(byte >> 4)], DIGITS[usize::from(byte & 15)]]
}
