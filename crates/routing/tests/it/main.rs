//! The service over a real socket, on both databases. The peers are stand-ins that serve the one RPC that is followed.
mod contacts;
mod decide;
mod follow;
mod setup;
mod support;
