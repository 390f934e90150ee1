//! What the tests across all services stand on.
//!
//! | to … | open |
//! | --- | --- |
//! | run all services in this process | [`world`] |
//! | run the program in processes of its own | [`program`] |
//! | make the usual calls in a line each | [`calls`] |
//! | load the real purchases | [`cdnow`] |
//! | send any bytes to any RPC | [`wire`] |
//! | make messages that nobody sensible would send | [`nonsense`] |
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    reason = "a test that cannot go on should say so loudly"
)]
pub mod calls;
pub mod cdnow;
pub mod nonsense;
pub mod program;
pub mod random;
pub mod wire;
pub mod world;
