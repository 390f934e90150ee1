//! What is refused, and how.
use chassis::{
    db_tests,
    testing::{Backend, fault, noon},
};
use prost_types::Timestamp;
use proto::{
    common::v1::{ErrorReason, Money},
    scoring::v1 as pb,
};
use tonic::Code;
use uuid::Uuid;

use crate::stand::{Stand, id, minor, sale};

db_tests!(
    odd_rows_are_refused_one_by_one_and_the_others_stand,
    an_unknown_customer_is_refused_and_known_once_profiles_knows_them,
    nothing_is_written_while_profiles_must_be_asked_and_is_down,
    a_total_that_would_not_fit_is_refused,
    an_empty_or_huge_batch_is_refused_as_a_whole,
    nonsense_is_refused_by_name,
    no_pyramid_before_a_ranking,
);

async fn odd_rows_are_refused_one_by_one_and_the_others_stand(backend: Backend) {
    let stand = Stand::new(backend).await;
    stand.profiles.know([id(1)]);
    let money = |code: &str, minor_units| Some(Money { currency_code: code.into(), minor_units });
    let ahead = Some(Timestamp { seconds: noon().as_second() + 301, nanos: 0 });
    let rows = vec![
        sale("good", id(1), 1, 100),
        pb::Purchase { amount: money("EUR", 1), ..sale("a", id(1), 1, 1) },
        pb::Purchase { amount: money("USD", 10_000_000_000_001), ..sale("b", id(1), 1, 1) },
        pb::Purchase { purchase_time: ahead, ..sale("c", id(1), 1, 1) },
        pb::Purchase { amount: money("USD", i64::MIN), ..sale("d", id(1), 1, 1) },
        pb::Purchase::default(),
        sale("unknown", id(9), 1, 1),
        pb::Purchase { amount: money("USD", 10_000_000_000_000), ..sale("most", id(1), 1, 1) },
        pb::Purchase { amount: money("XXQ", 1), ..sale("e", id(1), 1, 1) },
    ];
    let reply = stand.try_record(rows).await.unwrap();
    let reasons: Vec<_> = reply.rejections.iter().map(|r| (r.index, r.reason())).collect();
    use ErrorReason::{AmountTooLarge, CurrencyMismatch, CustomerUnknown, InvalidField, PurchaseInFuture};
    assert_eq!(
        reasons,
        [
            (1, CurrencyMismatch),
            (2, AmountTooLarge),
            (3, PurchaseInFuture),
            (4, InvalidField),
            (5, InvalidField),
            (6, CustomerUnknown),
            (8, InvalidField)
        ]
    );
    assert!(reply.rejections[4].message.starts_with("purchases[5].source: "), "{:?}", reply.rejections[4]);
    let named = &reply.rejections[6].message;
    assert!(named.starts_with("purchases[8].amount.currency_code: ") && named.contains("ISO 4217"), "{named}");
    assert_eq!(reply.counts.unwrap(), pb::PurchaseCounts { recorded: 2, rejected: 7, ..Default::default() });
    let sales = stand.score(id(1)).await.summary.unwrap().sales;
    assert_eq!(minor(sales.as_ref()), 10_000_000_000_100);
}

async fn an_unknown_customer_is_refused_and_known_once_profiles_knows_them(backend: Backend) {
    let stand = Stand::new(backend).await;
    for rows in [vec![sale(1, id(1), 1, 5)], (0..20).map(|n| sale(n, id(1), n, 5)).collect()] {
        let reply = stand.try_record(rows.clone()).await.unwrap();
        assert_eq!(reply.counts.unwrap().rejected, rows.len() as i64);
        assert!(reply.rejections.iter().all(|r| r.reason() == ErrorReason::CustomerUnknown));
    }
    stand.profiles.know([id(1)]);
    assert_eq!(stand.record(vec![sale(1, id(1), 1, 5)]).await.recorded, 1);
    // Known from now on without asking.
    let asked = stand.profiles.asked();
    stand.record(vec![sale(2, id(1), 1, 5)]).await;
    assert_eq!(stand.profiles.asked(), asked);
}

async fn nothing_is_written_while_profiles_must_be_asked_and_is_down(backend: Backend) {
    let stand = Stand::new(backend).await;
    stand.profiles.know([id(1), id(2)]);
    stand.record(vec![sale(1, id(1), 1, 5)]).await;
    stand.profiles.set_down(true);
    for filler in [0, 20] {
        let mut rows = vec![sale("x", id(1), 2, 5), sale("y", id(2), 1, 5)];
        rows.extend((0..filler).map(|n| sale(format!("f{n}"), id(1), n, 5)));
        let refused = stand.try_record(rows).await.unwrap_err();
        assert_eq!(fault(&refused).0, Code::Unavailable);
        assert_eq!(fault(&refused).1, "PEER_UNAVAILABLE");
    }
    assert_eq!(stand.score(id(1)).await.summary.unwrap().occasions, 1);
    // Those that are known need not wait for profiles.
    stand.record(vec![sale("x", id(1), 2, 5)]).await;
    stand.profiles.set_down(false);
    stand.record(vec![sale("y", id(2), 1, 5)]).await;
}

async fn a_total_that_would_not_fit_is_refused(backend: Backend) {
    let stand = Stand::new(backend).await;
    stand.profiles.know([id(1)]);
    stand.record(vec![sale(1, id(1), 5, 100)]).await;
    // A customer who bought for unheard-of sums.
    let huge = scoring::row::MAX_TOTAL_MINOR - 50;
    stand.alter(&format!("UPDATE customer SET sales_minor = {huge}")).await;
    let reply = stand.try_record(vec![sale(2, id(1), 1, 50), sale(3, id(1), 1, 1)]).await.unwrap();
    assert_eq!(reply.counts.unwrap(), pb::PurchaseCounts { recorded: 1, rejected: 1, ..Default::default() });
    assert_eq!((reply.rejections[0].index, reply.rejections[0].reason()), (1, ErrorReason::AmountTooLarge));
    let sales = stand.score(id(1)).await.summary.unwrap().sales;
    assert_eq!(minor(sales.as_ref()), scoring::row::MAX_TOTAL_MINOR);
}

async fn an_empty_or_huge_batch_is_refused_as_a_whole(backend: Backend) {
    let stand = Stand::new(backend).await;
    stand.profiles.know([id(1)]);
    for rows in [0, 5_001] {
        let rows = vec![sale("same", id(1), 1, 1); rows];
        let refused = stand.try_record(rows.clone()).await.unwrap_err();
        assert_eq!(fault(&refused), (Code::InvalidArgument, "INVALID_FIELD".into(), vec!["purchases".into()]));
        let stream = futures::stream::iter([pb::StreamPurchasesRequest { purchases: rows }]);
        let refused = stand.client.clone().stream_purchases(stream).await.unwrap_err();
        assert_eq!(fault(&refused).1, "INVALID_FIELD");
    }
    let most = (0..5_000).map(|n| sale(n, id(1), n % 700, 1)).collect();
    assert_eq!(stand.record(most).await.recorded, 5_000);
    assert_eq!(stand.score(id(1)).await.summary.unwrap().occasions, 700);
}

async fn nonsense_is_refused_by_name(backend: Backend) {
    let stand = Stand::new(backend).await;
    let mut client = stand.client.clone();
    let id = "no uuid".to_owned();
    let invalid = |refused: tonic::Status, fields: &[&str]| {
        let expected = fields.iter().map(|field| (*field).to_owned()).collect::<Vec<_>>();
        assert_eq!(fault(&refused), (Code::InvalidArgument, "INVALID_FIELD".into(), expected));
    };
    let far = Some(Timestamp { seconds: i64::MAX, nanos: -1 });
    let request =
        pb::GetScoreRequest { customer_id: id.clone(), as_of: far, with_evidence: true, ..Default::default() };
    invalid(client.get_score(request).await.unwrap_err(), &["customer_id", "as_of"]);
    let tomorrow = Some(Timestamp { seconds: noon().as_second() + 1, nanos: 0 });
    let request = pb::GetScoreRequest {
        customer_id: Uuid::max().to_string(),
        as_of: tomorrow,
        with_evidence: true,
        ..Default::default()
    };
    invalid(client.get_score(request).await.unwrap_err(), &["as_of"]);
    let request = pb::BatchGetScoresRequest { customer_ids: vec![id.clone()], ..Default::default() };
    invalid(client.batch_get_scores(request).await.unwrap_err(), &["customer_ids[0]"]);
    invalid(client.batch_get_scores(pb::BatchGetScoresRequest::default()).await.unwrap_err(), &["customer_ids"]);
    let request = pb::BatchGetScoresRequest { customer_ids: vec![id.clone(); 1_001], ..Default::default() };
    invalid(client.batch_get_scores(request).await.unwrap_err(), &["customer_ids"]);
    let request = pb::ListPurchasesRequest { customer_id: id.clone(), page_size: -1, ..Default::default() };
    invalid(client.list_purchases(request).await.unwrap_err(), &["customer_id", "page_size"]);
    let request = pb::ListPurchasesRequest {
        customer_id: Uuid::max().to_string(),
        page_token: "nonsense".into(),
        ..Default::default()
    };
    assert_eq!(fault(&client.list_purchases(request).await.unwrap_err()).1, "PAGE_TOKEN_MISMATCH");
    let date = Some(pb::Date { year: 2026, month: 13, day: -4 });
    let request = pb::FitModelsRequest { request_id: "\0".into(), as_of: date, trial: false };
    invalid(client.fit_models(request).await.unwrap_err(), &["request_id", "as_of"]);
    let date = Some(pb::Date { year: 2026, month: 1, day: 15 });
    let request = pb::RankCustomersRequest { request_id: "r".repeat(65), as_of: date };
    invalid(client.rank_customers(request).await.unwrap_err(), &["request_id", "as_of"]);
    let request = pb::GetOperationRequest { operation_id: id.clone() };
    invalid(client.get_operation(request).await.unwrap_err(), &["operation_id"]);
    let timeout = Some(prost_types::Duration { seconds: 61, nanos: 0 });
    let request = pb::WaitOperationRequest { operation_id: id.clone(), timeout };
    invalid(client.wait_operation(request).await.unwrap_err(), &["operation_id", "timeout"]);
    let request = pb::ListOperationsRequest { page_size: 1_001, ..Default::default() };
    invalid(client.list_operations(request).await.unwrap_err(), &["page_size"]);
    let request = pb::ListModelsRequest { page_size: i32::MIN, ..Default::default() };
    invalid(client.list_models(request).await.unwrap_err(), &["page_size"]);
    let request = pb::GetPyramidRequest { basis: 77 };
    invalid(client.get_pyramid(request).await.unwrap_err(), &["basis"]);
    let request = pb::WatchScoresRequest { cursor: "nonsense".into(), only_new: false };
    assert_eq!(fault(&client.watch_scores(request).await.unwrap_err()).1, "CURSOR_UNKNOWN");
}

async fn no_pyramid_before_a_ranking(backend: Backend) {
    let stand = Stand::new(backend).await;
    let refused = stand.client.clone().get_pyramid(pb::GetPyramidRequest::default()).await.unwrap_err();
    assert_eq!(fault(&refused), (Code::FailedPrecondition, "NO_RANKING".into(), vec![]));
}
