//! scoring over its public API: a real database, a real server, the generated client, a clock that stands still.
mod cdnow;
mod concurrent;
mod operations;
mod order;
mod profiles;
mod purchases;
mod refused;
mod scores;
mod stand;
mod watch;
