//! Amounts are kept without their currency and days without their time zone: a start never takes them for something else.
use chassis::{
    Clock, Db, db_tests,
    testing::{Backend, fault, noon},
};
use proto::scoring::v1 as pb;
use scoring::books::{Terms, settle};
use tonic::Code;

use crate::stand::{Stand, id, minor, sale};

db_tests!(
    a_start_in_another_currency_or_time_zone_is_refused_once_there_are_purchases,
    before_the_first_purchase_the_books_may_change_and_a_replica_of_the_old_ones_records_nothing,
    of_a_first_purchase_and_a_change_of_the_books_one_is_refused,
);

fn kept_in(currency: &str) -> Terms {
    Terms { currency: currency.into(), time_zone: "UTC".into() }
}

async fn a_start_in_another_currency_or_time_zone_is_refused_once_there_are_purchases(backend: Backend) {
    let stand = Stand::new(backend).await.shared().await;
    stand.profiles.know([id(1)]);
    stand.record(vec![sale(1, id(1), 1, 24_409_194)]).await;
    let refused = stand.start_with(|config| config.currency = "JPY".into()).await.unwrap_err().to_string();
    assert!(refused.starts_with("scoring.currency: ") && refused.contains("kept in USD"), "{refused}");
    let refused = stand.start_with(|config| config.time_zone = "Asia/Tokyo".into()).await.unwrap_err().to_string();
    assert!(refused.starts_with("scoring.time_zone: ") && refused.contains("kept in UTC"), "{refused}");
    // Nothing came of it.
    let stand = stand.restarted().await;
    let sales = stand.score(id(1)).await.summary.unwrap().sales.unwrap();
    assert_eq!((sales.currency_code.as_str(), sales.minor_units), ("USD", 24_409_194));
    assert_eq!(stand.record(vec![sale(2, id(1), 1, 1)]).await.recorded, 1);
}

async fn before_the_first_purchase_the_books_may_change_and_a_replica_of_the_old_ones_records_nothing(
    backend: Backend,
) {
    let stand = Stand::new(backend).await.shared().await;
    stand.profiles.know([id(1)]);
    // A refused purchase leaves none.
    assert_eq!(stand.try_record(vec![sale(1, id(9), 1, 5)]).await.unwrap().rejections.len(), 1);
    stand.start_with(|config| config.currency = "JPY".into()).await.unwrap();
    for rows in [1, 20] {
        let rows = (0..rows).map(|n| sale(n, id(1), 1, 5)).collect();
        assert_eq!(fault(&stand.try_record(rows).await.unwrap_err()).0, Code::Unavailable);
    }
    // Nothing was recorded, so they may change back, and then it goes on.
    stand.start_with(|_| {}).await.unwrap();
    stand.record(vec![sale(1, id(1), 1, 5)]).await;
    assert_eq!(minor(stand.score(id(1)).await.summary.unwrap().sales.as_ref()), 5);
}

async fn of_a_first_purchase_and_a_change_of_the_books_one_is_refused(backend: Backend) {
    for round in 0..6 {
        let stand = Stand::new(backend).await.shared().await;
        stand.profiles.know([id(1)]);
        let db = Db::connect::<scoring::migrations::Migrator>(stand.db.url(), &Clock::mock(noon())).await.unwrap();
        let jpy = kept_in("JPY");
        let rows = (0..300).map(|n| sale(n, id(1), 1, 5)).collect();
        let settling = async {
            // Earlier and later within the purchase's transaction, and before it.
            tokio::time::sleep(std::time::Duration::from_millis(round * 4)).await;
            settle(&db, &jpy).await
        };
        let (recorded, settled) = tokio::join!(stand.try_record(rows), settling);
        assert_ne!(recorded.is_ok(), settled.is_ok(), "{recorded:?} {settled:?}");
        // Nor does a replica of the old books show any more what is in them.
        let request = pb::ListPurchasesRequest { customer_id: id(1).to_string(), ..Default::default() };
        let listed = stand.client.clone().list_purchases(request).await;
        assert_eq!(listed.is_ok(), settled.is_err());
        assert!(listed.is_ok_and(|listed| !listed.into_inner().purchases.is_empty()) || settled.is_ok());
    }
}
