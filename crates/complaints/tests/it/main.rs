//! The service as its callers meet it: a real server, a real database of either kind, the generated client, a clock that the test moves.
mod causes;
mod changes;
mod faults;
mod filing;
mod following;
mod lists;
mod sweeping;
mod watching;
mod world;
