//! The service as its callers meet it: a real server, a real database of either kind, the generated client, a clock that the test moves.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    reason = "a test that cannot go on should say so loudly"
)]

mod causes;
mod changes;
mod faults;
mod filing;
mod following;
mod lists;
mod migrated;
mod sweeping;
mod watching;
mod world;
