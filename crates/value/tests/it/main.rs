//! One binary; a file per story.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

mod cdnow;
mod contracts;
mod generated;
mod histories;
mod independent;
mod precision;
mod properties;
mod refusals;
mod valuer;

/// Asserts that `found` is `wanted` up to a relative error.
#[track_caller]
fn assert_close(found: f64, wanted: f64, tolerance: f64, what: impl std::fmt::Display) {
    assert!((found - wanted).abs() <= tolerance * wanted.abs(), "{what}: {found} is not {wanted}");
}
