//! What becomes of payments.
use chassis::{
    db_tests,
    testing::{Backend, fault},
};
use proto::{common::v1::ErrorReason, scoring::v1 as pb};
use tonic::{Code, Status};

use crate::stand::{Stand, id, invoice, minor, paid, sale};

db_tests!(
    without_payments_nothing_is_known_of_them,
    what_is_owed_and_how_late_it_is_follows_the_day,
    paying_replaces_the_open_invoice,
    sending_a_payment_again_changes_nothing,
    punctuality_is_a_mark_on_the_scorecard,
    a_debt_given_up_disqualifies_from_its_due_day_on,
    a_debt_beyond_all_bounds_stops_at_the_limit,
    refused_payments_are_named_and_the_others_stand,
);

async fn try_record(stand: &Stand, payments: Vec<pb::Payment>) -> Result<pb::RecordPaymentsResponse, Status> {
    let request = pb::RecordPaymentsRequest { payments };
    stand.client.clone().record_payments(request).await.map(tonic::Response::into_inner)
}

async fn record(stand: &Stand, payments: Vec<pb::Payment>) -> pb::RowCounts {
    let reply = try_record(stand, payments).await.unwrap();
    assert_eq!(reply.rejections, [], "{reply:?}");
    reply.counts.unwrap()
}

fn counts(recorded: i64, replaced: i64, unchanged: i64) -> pb::RowCounts {
    pb::RowCounts { recorded, replaced, unchanged, ..Default::default() }
}

async fn buyer(backend: Backend) -> Stand {
    let stand = Stand::new(backend).await;
    stand.profiles.know([id(1)]);
    stand.record(vec![sale(1, id(1), 60, 1_000)]).await;
    stand
}

/// Receivables and days overdue.
async fn owed(stand: &Stand, days_ago: i64) -> (i64, i32) {
    let found = stand.assess(id(1), days_ago).await;
    (minor(found.receivables.as_ref()), found.days_overdue.unwrap())
}

fn bad_debts(found: &pb::Assessment) -> pb::Answer {
    found.scorecard.as_ref().unwrap().disqualifiers[1].answer()
}

async fn without_payments_nothing_is_known_of_them(backend: Backend) {
    let stand = buyer(backend).await;
    let found = stand.assess(id(1), 0).await;
    assert_eq!((&found.receivables, found.days_overdue), (&None, None));
    assert_eq!(bad_debts(&found), pb::Answer::Unspecified);
}

async fn what_is_owed_and_how_late_it_is_follows_the_day(backend: Backend) {
    let stand = buyer(backend).await;
    // Issued 50 days ago and due 40 days ago; half of it came 20 days ago. The other was paid in time.
    let rows = vec![paid(invoice("a", id(1), 50, 900), 20, 450), paid(invoice("b", id(1), 50, 70), 45, 70)];
    assert_eq!(record(&stand, rows).await, counts(2, 0, 0));
    for (days_ago, expected) in
        [(50, (970, 0)), (44, (900, 0)), (40, (900, 0)), (39, (900, 1)), (20, (450, 20)), (0, (450, 40))]
    {
        assert_eq!(owed(&stand, days_ago).await, expected, "{days_ago}");
    }
    let before = stand.assess(id(1), 51).await;
    assert_eq!((before.receivables, before.days_overdue), (None, None));
}

async fn paying_replaces_the_open_invoice(backend: Backend) {
    let stand = buyer(backend).await;
    record(&stand, vec![invoice("a", id(1), 50, 900)]).await;
    assert_eq!(owed(&stand, 0).await, (900, 40));
    assert_eq!(record(&stand, vec![paid(invoice("a", id(1), 50, 900), 1, 900)]).await, counts(0, 1, 0));
    assert_eq!(owed(&stand, 0).await, (0, 0));
    // As it looked then.
    assert_eq!(owed(&stand, 2).await, (900, 38));
}

async fn sending_a_payment_again_changes_nothing(backend: Backend) {
    let stand = buyer(backend).await;
    let rows = vec![paid(invoice("a", id(1), 50, 900), 20, 450), invoice("b", id(1), 9, 1)];
    record(&stand, rows.clone()).await;
    let before = stand.assess(id(1), 0).await;
    let score = stand.score(id(1)).await;
    assert_eq!(record(&stand, rows).await, counts(0, 0, 2));
    assert_eq!(stand.assess(id(1), 0).await, before);
    // Payments are no part of what a customer is worth.
    assert_eq!(stand.score(id(1)).await, score);
    assert_eq!(minor(score.realised_value.as_ref()), 1_000);
}

async fn punctuality_is_a_mark_on_the_scorecard(backend: Backend) {
    let stand = buyer(backend).await;
    let mark = async || stand.assess(id(1), 0).await.scorecard.unwrap().criteria[1].score;
    assert_eq!(mark().await, None);
    record(&stand, vec![paid(invoice("a", id(1), 50, 900), 45, 900)]).await;
    assert_eq!(mark().await, Some(1.0));
    record(&stand, vec![paid(invoice("b", id(1), 50, 900), 30, 900)]).await;
    assert_eq!(mark().await, Some(0.5));
}

async fn a_debt_given_up_disqualifies_from_its_due_day_on(backend: Backend) {
    let stand = buyer(backend).await;
    let trouble = pb::PaymentTrouble::WrittenOff.into();
    record(&stand, vec![pb::Payment { trouble, ..invoice("a", id(1), 50, 900) }]).await;
    assert_eq!(bad_debts(&stand.assess(id(1), 0).await), pb::Answer::Yes);
    assert_eq!(bad_debts(&stand.assess(id(1), 41).await), pb::Answer::No);
}

async fn a_debt_beyond_all_bounds_stops_at_the_limit(backend: Backend) {
    let stand = buyer(backend).await;
    record(&stand, (0..3).map(|number| invoice(number, id(1), 50, 900)).collect()).await;
    // As of a million invoices of the largest amount.
    for (each, sum) in
        [(3_074_457_345_618_258_602, i64::MAX - 1), (3_074_457_345_618_258_603, i64::MAX), (i64::MAX, i64::MAX)]
    {
        stand.alter(&format!("UPDATE payment SET amount_minor = {each}")).await;
        assert_eq!(owed(&stand, 0).await, (sum, 40));
    }
    assert_eq!(bad_debts(&stand.assess(id(1), 0).await), pb::Answer::No);
}

async fn refused_payments_are_named_and_the_others_stand(backend: Backend) {
    let stand = buyer(backend).await;
    let good = invoice("a", id(1), 50, 900);
    let rows = vec![
        good.clone(),
        pb::Payment { due_time: None, ..good.clone() },
        pb::Payment { due_time: sale("", id(1), 51, 0).purchase_time, ..good.clone() },
        paid(good.clone(), 1, 901),
        pb::Payment { paid_amount: good.amount.clone(), ..good.clone() },
        pb::Payment { trouble: 7, ..good.clone() },
        paid(good.clone(), -1, 1),
        pb::Payment { customer_id: id(9).to_string(), ..good },
    ];
    let reply = try_record(&stand, rows).await.unwrap();
    assert_eq!(reply.counts, Some(pb::RowCounts { recorded: 1, rejected: 7, ..Default::default() }));
    let paths: Vec<_> = reply.rejections.iter().map(|r| r.message.split(':').next().unwrap().to_owned()).collect();
    let expected =
        ["due_time", "due_time", "paid_amount.minor_units", "paid_time", "trouble", "paid_time", "customer_id"];
    let expected: Vec<_> = (1..).zip(expected).map(|(index, field)| format!("payments[{index}].{field}")).collect();
    assert_eq!(paths, expected);
    assert_eq!(reply.rejections[5].reason(), ErrorReason::PurchaseInFuture);
    assert_eq!(reply.rejections[6].reason(), ErrorReason::CustomerUnknown);
    let empty = try_record(&stand, Vec::new()).await.unwrap_err();
    assert_eq!(fault(&empty), (Code::InvalidArgument, "INVALID_FIELD".into(), vec!["payments".into()]));
}
