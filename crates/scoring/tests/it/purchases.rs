//! What becomes of purchases.
use chassis::{db_tests, testing::Backend};
use proto::scoring::v1 as pb;

use crate::stand::{Stand, back, id, minor, sale};

db_tests!(
    a_purchase_changes_the_score_at_once,
    sending_again_changes_nothing,
    a_corrected_purchase_replaces_the_earlier_one,
    a_correction_may_give_the_purchase_to_somebody_else,
    a_return_is_subtracted_and_is_no_occasion,
    of_the_same_purchase_twice_in_one_batch_the_later_counts,
    a_purchase_of_nothing_is_an_occasion,
    the_day_is_that_of_the_business,
    purchases_are_listed_newest_first_page_by_page,
    pages_go_by_time_where_clocks_are_put_back_over_midnight,
    a_stream_sums_up_and_counts_rows_from_its_first,
    a_long_stream_counts_as_its_batches_would_one_by_one,
    what_a_stream_brought_before_a_bad_batch_is_recorded,
    a_stream_ends_with_the_first_batch_that_cannot_be_written,
);

fn counts(recorded: i64, replaced: i64, unchanged: i64) -> pb::PurchaseCounts {
    pb::PurchaseCounts { recorded, replaced, unchanged, ..Default::default() }
}

/// (occasions, sales, returns, realised value)
fn figures(score: &pb::Score) -> (i64, i64, i64, i64) {
    let summary = score.summary.as_ref().unwrap();
    (
        summary.occasions,
        minor(summary.sales.as_ref()),
        minor(summary.returns.as_ref()),
        minor(score.realised_value.as_ref()),
    )
}

async fn a_purchase_changes_the_score_at_once(backend: Backend) {
    let stand = Stand::new(backend).await;
    stand.profiles.know([id(1)]);
    for number in 1..=3 {
        let recorded = stand.record(vec![sale(number, id(1), 100 - number, 1_000)]).await;
        assert_eq!(recorded, counts(1, 0, 0));
        assert_eq!(figures(&stand.score(id(1)).await), (number, number * 1_000, 0, number * 1_000));
    }
    let standing = stand.score(id(1)).await.standing.unwrap();
    assert_eq!((standing.relationship(), standing.revision), (pb::Relationship::Repeat, 2));
    assert!(standing.estimated);
}

async fn sending_again_changes_nothing(backend: Backend) {
    let stand = Stand::new(backend).await;
    stand.profiles.know([id(1), id(2)]);
    let rows: Vec<_> = (0..50).map(|n| sale(n, id(1 + n % 2), n as i64, 10)).collect();
    assert_eq!(stand.record(rows.clone()).await, counts(50, 0, 0));
    let before = stand.score(id(1)).await;
    assert_eq!(stand.record(rows.clone()).await, counts(0, 0, 50));
    // Also a part of them among new ones, as after an import that broke off.
    let mut more = rows[20..].to_vec();
    more.push(sale("new", id(2), 0, 10));
    assert_eq!(stand.record(more).await, counts(1, 0, 30));
    assert_eq!(stand.score(id(1)).await, before);
    assert_eq!(figures(&stand.score(id(2)).await), (26, 260, 0, 260));
}

async fn a_corrected_purchase_replaces_the_earlier_one(backend: Backend) {
    let stand = Stand::new(backend).await;
    stand.profiles.know([id(1)]);
    let rows = [("a", 30, 100), ("b", 20, 100), ("c", 10, 100)].map(|(p, days, cents)| sale(p, id(1), days, cents));
    stand.record(rows.to_vec()).await;
    // Amount, then day: the first occasion goes, then the last, then two become one.
    for (row, expected) in [
        (sale("b", id(1), 20, 500), (3, 700, 0, 700)),
        (sale("a", id(1), 15, 100), (3, 700, 0, 700)),
        (sale("c", id(1), 15, 100), (2, 700, 0, 700)),
        (back("b", id(1), 20, 500), (1, 200, 500, -300)),
    ] {
        assert_eq!(stand.record(vec![row]).await, counts(0, 1, 0));
        assert_eq!(figures(&stand.score(id(1)).await), expected);
    }
    let summary = stand.score(id(1)).await.summary.unwrap();
    assert_eq!(summary.first_day, summary.last_day);
    assert_eq!(summary.first_day, Some(pb::Date { year: 2025, month: 12, day: 30 }));
}

async fn a_correction_may_give_the_purchase_to_somebody_else(backend: Backend) {
    let stand = Stand::new(backend).await;
    stand.profiles.know([id(1), id(2)]);
    stand.record(vec![sale("a", id(1), 3, 100), sale("b", id(2), 2, 50)]).await;
    // What is corrected is counted, and of it what was taken from somebody: also by a later row of the same call.
    let rows =
        vec![sale("a", id(2), 3, 100), sale("b", id(1), 2, 50), sale("b", id(2), 2, 50), sale("b", id(2), 2, 60)];
    assert_eq!(stand.record(rows).await, pb::PurchaseCounts { moved: 3, ..counts(0, 4, 0) });
    assert_eq!(stand.record(vec![sale("b", id(2), 2, 50)]).await, counts(0, 1, 0));
    assert_eq!(figures(&stand.score(id(2)).await), (2, 150, 0, 150));
    let left = stand.score(id(1)).await;
    assert_eq!(left.summary, None);
    assert_eq!(left.standing.unwrap().relationship(), pb::Relationship::Potential);
}

async fn a_return_is_subtracted_and_is_no_occasion(backend: Backend) {
    let stand = Stand::new(backend).await;
    stand.profiles.know([id(1), id(2)]);
    stand.record(vec![sale(1, id(1), 9, 1_000), back(2, id(1), 5, 400)]).await;
    assert_eq!(figures(&stand.score(id(1)).await), (1, 1_000, 400, 600));
    // Who only gives back has not bought, until the sale comes in, too.
    stand.record(vec![back(3, id(2), 5, 400)]).await;
    let score = stand.score(id(2)).await;
    assert_eq!((score.summary, score.standing.unwrap().relationship()), (None, pb::Relationship::Potential));
    stand.record(vec![sale(4, id(2), 9, 1_000)]).await;
    assert_eq!(figures(&stand.score(id(2)).await), (1, 1_000, 400, 600));
}

async fn of_the_same_purchase_twice_in_one_batch_the_later_counts(backend: Backend) {
    let stand = Stand::new(backend).await;
    stand.profiles.know([id(1)]);
    let (first, second) = (sale("a", id(1), 3, 100), sale("a", id(1), 2, 70));
    let rows = vec![first.clone(), first.clone(), second.clone()];
    assert_eq!(stand.record(rows).await, counts(1, 1, 1));
    assert_eq!(figures(&stand.score(id(1)).await), (1, 70, 0, 70));
    // Back and forth ends where it began.
    assert_eq!(stand.record(vec![first, second]).await, counts(0, 2, 0));
    assert_eq!(figures(&stand.score(id(1)).await), (1, 70, 0, 70));
}

async fn a_purchase_of_nothing_is_an_occasion(backend: Backend) {
    let stand = Stand::new(backend).await;
    stand.profiles.know([id(1)]);
    stand.record(vec![sale(1, id(1), 9, 0), sale(2, id(1), 5, 0)]).await;
    assert_eq!(figures(&stand.score(id(1)).await), (2, 0, 0, 0));
}

async fn the_day_is_that_of_the_business(backend: Backend) {
    let stand =
        Stand::at(backend, chassis::testing::noon(), |config| config.time_zone = "Pacific/Auckland".into()).await;
    stand.profiles.know([id(1)]);
    // Noon in UTC is one in the morning of the next day: an hour and a half earlier it was the day before.
    let mut earlier = sale(1, id(1), 2, 100);
    earlier.purchase_time.as_mut().unwrap().seconds -= 5_400;
    stand.record(vec![earlier, sale(2, id(1), 2, 100)]).await;
    let summary = stand.score(id(1)).await.summary.unwrap();
    assert_eq!((summary.occasions, summary.last_day), (2, Some(pb::Date { year: 2026, month: 1, day: 13 })));
}

async fn purchases_are_listed_newest_first_page_by_page(backend: Backend) {
    let stand = Stand::new(backend).await;
    stand.profiles.know([id(1), id(2)]);
    // Two at the same moment, too.
    let rows: Vec<_> = (0..25).map(|n| sale(format!("{n:02}"), id(1), n / 2, n)).collect();
    stand.record(rows.clone()).await;
    stand.record(vec![sale("other", id(2), 1, 1)]).await;
    let (mut listed, mut token) = (Vec::new(), String::new());
    loop {
        let request =
            pb::ListPurchasesRequest { customer_id: id(1).to_string(), page_size: 10, page_token: token.clone() };
        let reply = stand.client.clone().list_purchases(request).await.unwrap().into_inner();
        listed.extend(reply.purchases);
        token = reply.next_page_token;
        if token.is_empty() {
            break;
        }
    }
    let mut expected = rows;
    expected.sort_by_key(|row| std::cmp::Reverse((row.purchase_time.unwrap().seconds, row.purchase_id.clone())));
    assert_eq!(listed, expected);
}

async fn pages_go_by_time_where_clocks_are_put_back_over_midnight(backend: Backend) {
    let stand =
        Stand::at(backend, chassis::testing::noon(), |config| config.time_zone = "America/St_Johns".into()).await;
    stand.profiles.know([id(1)]);
    // On 2010-11-07, a minute after midnight, it was 23:01 on the 6th again.
    let row = |purchase_id: &str, time: &str| {
        let time = chassis::clock::to_proto(time.parse().unwrap());
        pb::Purchase { purchase_time: Some(time), ..sale(purchase_id, id(1), 1, 1) }
    };
    let rows = [("later", "2010-11-07T02:45:00Z"), ("earlier", "2010-11-07T02:30:30Z")].map(|(p, time)| row(p, time));
    stand.record(rows.to_vec()).await;
    let summary = stand.score(id(1)).await.summary.unwrap();
    assert_eq!((summary.first_day.unwrap().day, summary.last_day.unwrap().day), (6, 7));
    let (mut listed, mut token) = (Vec::new(), String::new());
    for _ in 0..2 {
        let request = pb::ListPurchasesRequest { customer_id: id(1).to_string(), page_size: 1, page_token: token };
        let reply = stand.client.clone().list_purchases(request).await.unwrap().into_inner();
        listed.extend(reply.purchases);
        token = reply.next_page_token;
    }
    assert_eq!((listed.as_slice(), token.as_str()), (rows.as_slice(), ""));
}

async fn a_stream_sums_up_and_counts_rows_from_its_first(backend: Backend) {
    let stand = Stand::new(backend).await;
    stand.profiles.know([id(1)]);
    let good = |n: i64| sale(n, id(1), n, 10);
    let mut bad = good(7);
    bad.amount.as_mut().unwrap().currency_code = "EUR".into();
    let batches = [vec![good(1), good(2)], vec![good(3), bad, good(2)]];
    let batches = batches.map(|purchases| pb::StreamPurchasesRequest { purchases });
    let reply = stand.client.clone().stream_purchases(futures::stream::iter(batches)).await.unwrap().into_inner();
    let expected = pb::PurchaseCounts { recorded: 3, unchanged: 1, rejected: 1, ..Default::default() };
    assert_eq!(reply.counts, Some(expected));
    assert_eq!(reply.rejections.len(), 1);
    assert_eq!(reply.rejections[0].index, 3);
    assert!(reply.rejections[0].message.starts_with("purchases[3].amount.currency_code"));
    // Nothing sent, nothing done.
    let reply = stand.client.clone().stream_purchases(futures::stream::empty()).await.unwrap().into_inner();
    assert_eq!(reply.counts, Some(pb::PurchaseCounts::default()));
}

async fn a_long_stream_counts_as_its_batches_would_one_by_one(backend: Backend) {
    // Several times what is read ahead and written together.
    const BATCHES: i64 = 9;
    const ROWS: i64 = 3_000;
    let stand = Stand::new(backend).await;
    stand.profiles.know((1..=500).map(id));
    let batches = (0..BATCHES).map(|batch| {
        let mut rows: Vec<_> =
            (0..ROWS).map(|n| sale(batch * ROWS + n, id(1 + (n % 500) as u128), 1 + batch * 7 + n % 5, 100)).collect();
        // Each batch sends the first row of the stream again, corrected and of another customer, one that is always the same, and one of a stranger.
        rows.push(sale(0, id(1 + (batch % 2) as u128), 90, 1_000 + batch));
        rows.push(sale(-2, id(3), 50, 7));
        rows.push(sale(-1, id(501), 1, 1));
        pb::StreamPurchasesRequest { purchases: rows }
    });
    let batches: Vec<_> = batches.collect();
    let mut alone = pb::PurchaseCounts::default();
    let other = Stand::new(backend).await;
    other.profiles.know((1..=500).map(id));
    for batch in &batches {
        let counts = other.try_record(batch.purchases.clone()).await.unwrap().counts.unwrap();
        alone.recorded += counts.recorded;
        alone.replaced += counts.replaced;
        alone.unchanged += counts.unchanged;
        alone.moved += counts.moved;
        alone.rejected += counts.rejected;
    }
    assert_eq!((alone.replaced, alone.unchanged, alone.moved), (BATCHES, BATCHES - 1, BATCHES - 1));
    let reply = stand.client.clone().stream_purchases(futures::stream::iter(batches)).await.unwrap().into_inner();
    assert_eq!(reply.counts, Some(alone));
    let refused: Vec<_> = reply.rejections.iter().map(|rejection| rejection.index).collect();
    let expected: Vec<_> = (1..=BATCHES).map(|batch| batch * (ROWS + 3) - 1).collect();
    assert_eq!(refused, expected);
    for customer in [1, 2, 250, 500] {
        assert_eq!(figures(&stand.score(id(customer)).await), figures(&other.score(id(customer)).await));
    }
}

async fn what_a_stream_brought_before_a_bad_batch_is_recorded(backend: Backend) {
    let stand = Stand::new(backend).await;
    stand.profiles.know([id(1)]);
    let batches = [vec![sale(1, id(1), 2, 10)], vec![sale(2, id(1), 1, 10)], Vec::new(), vec![sale(3, id(1), 0, 10)]];
    let batches = batches.map(|purchases| pb::StreamPurchasesRequest { purchases });
    let status = stand.client.clone().stream_purchases(futures::stream::iter(batches)).await.unwrap_err();
    assert_eq!(status.code(), tonic::Code::InvalidArgument, "{status}");
    assert_eq!(figures(&stand.score(id(1)).await), (2, 20, 0, 20));
}

async fn a_stream_ends_with_the_first_batch_that_cannot_be_written(backend: Backend) {
    let stand = Stand::new(backend).await;
    stand.profiles.know([id(1)]);
    stand.record(vec![sale(1, id(1), 5, 10)]).await;
    stand.profiles.set_down(true);
    // Endless: nobody may wait for its last batch, nor for room to read another one.
    let batch = |n: i64| {
        let customer = if n == 3 { id(2) } else { id(1) };
        pb::StreamPurchasesRequest { purchases: vec![sale(100 + n, customer, 1, 10)] }
    };
    let status = stand.client.clone().stream_purchases(futures::stream::iter((0..).map(batch))).await.unwrap_err();
    assert_eq!(status.code(), tonic::Code::Unavailable, "{status}");
}
