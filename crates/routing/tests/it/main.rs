//! The service over a real socket, on both databases. The peers are stand-ins that serve the one RPC that is followed.
#![allow(clippy::unwrap_used, clippy::panic, reason = "a test that cannot go on should say so loudly")]

mod contacts;
mod decide;
mod follow;
mod setup;
mod support;
