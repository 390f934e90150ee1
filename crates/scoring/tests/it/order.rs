//! Whatever order purchases come in, and however they are split, the summaries are what the ledger adds up to.
use chassis::{
    clock::to_proto,
    db_tests,
    testing::{Backend, noon},
};
use proptest::{
    strategy::{Strategy, ValueTree},
    test_runner::{Config, RngAlgorithm, TestRng, TestRunner},
};
use proto::scoring::v1 as pb;

use crate::stand::{Stand, back, id, sale};

db_tests!(any_order_and_any_split_gives_what_the_ledger_adds_up_to);

const CUSTOMERS: u128 = 3;

/// Rows of a few customers on a few days, many of them sent again or corrected, in batches.
fn batches() -> impl Strategy<Value = Vec<Vec<pb::Purchase>>> {
    let row =
        (0..60_u32, 1..=CUSTOMERS, 1..15_i64, 0..1_000_i64, 0..8_u8).prop_map(|(p, customer, days, cents, kind)| {
            if kind == 0 { back(p, id(customer), days, cents) } else { sale(p, id(customer), days, cents) }
        });
    // Batches below and above the size up to which calls share a commit.
    proptest::collection::vec(proptest::collection::vec(row, 1..20), 1..12)
}

async fn any_order_and_any_split_gives_what_the_ledger_adds_up_to(backend: Backend) {
    let stand = Stand::new(backend).await;
    stand.profiles.know((1..=CUSTOMERS).map(id));
    let rng = TestRng::from_seed(RngAlgorithm::ChaCha, &[7; 32]);
    let mut runner = TestRunner::new_with_rng(Config::default(), rng);
    for round in 0..25 {
        for mut batch in batches().new_tree(&mut runner).unwrap().current() {
            // A source of its own, so that each round begins with rows that are not there; the customers' histories go on.
            batch.iter_mut().for_each(|row| row.source = format!("round{round}"));
            stand.record(batch).await;
            for customer in 1..=CUSTOMERS {
                kept_equals_recomputed(&stand, customer).await;
            }
        }
    }
}

/// The score from the summary that is kept equals the one from the ledger.
async fn kept_equals_recomputed(stand: &Stand, customer: u128) {
    let customer_id = id(customer).to_string();
    let kept = pb::GetScoreRequest {
        customer_id: customer_id.clone(),
        as_of: None,
        with_evidence: true,
        ..Default::default()
    };
    let added_up =
        pb::GetScoreRequest { customer_id, as_of: Some(to_proto(noon())), with_evidence: true, ..Default::default() };
    let Ok(kept) = stand.client.clone().get_score(kept).await else { return };
    let added_up = stand.client.clone().get_score(added_up).await.unwrap().into_inner();
    assert_eq!(kept.into_inner(), added_up);
}
