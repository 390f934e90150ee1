//! scoring over its public API: a real database, a real server, the generated client, a clock that stands still.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    reason = "a test that cannot go on should say so loudly"
)]
mod assessment;
mod books;
mod cdnow;
mod concurrent;
mod costs;
mod filled;
mod heard;
mod killed;
mod migrated;
mod models;
mod operations;
mod order;
mod payments;
mod potential;
mod present;
mod profiles;
mod purchases;
mod refused;
mod replica;
mod scores;
mod segments;
mod stand;
mod transitions;
mod watch;
