//! How fast rows go in. Not a test of anything: `cargo test --release -p scoring --test it speed -- --ignored --nocapture`.
use chassis::testing::{Backend, postgres_or_say_so};
use proto::scoring::v1 as pb;

use crate::stand::{Stand, id, sale};

const ROWS: i64 = 100_000;
const CUSTOMERS: i64 = 20_000;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "measures"]
async fn rows_a_second() {
    for backend in [Backend::Sqlite, Backend::Postgres] {
        if backend == Backend::Sqlite || postgres_or_say_so() {
            measure(backend).await;
        }
    }
}

#[allow(clippy::disallowed_methods, reason = "measures")]
async fn measure(backend: Backend) {
    let stand = Stand::new(backend).await;
    stand.profiles.know((0..CUSTOMERS).map(|n| id(n as u128)));
    stand.profiles.feed();
    let row = |n: i64| sale(n, id((n * 7_919 % CUSTOMERS) as u128), 1 + (ROWS - n) / 200, n % 10_000);
    let rows: Vec<_> = (0..ROWS).map(row).collect();
    for what in ["new", "again"] {
        let batches: Vec<_> =
            rows.chunks(5_000).map(|batch| pb::StreamPurchasesRequest { purchases: batch.to_vec() }).collect();
        let started = std::time::Instant::now();
        let reply = stand.client.clone().stream_purchases(futures::stream::iter(batches)).await.unwrap();
        let took = started.elapsed().as_secs_f64();
        println!("{backend:?} {what}: {:.0} rows/s {:?}", ROWS as f64 / took, reply.into_inner().counts);
    }
}
