use chassis::{
    db::{BoxFuture, sql},
    testing::{Backend, fault},
};
use proto::complaints::v1::{self as pb, Severity};
use sea_orm::ConnectionTrait;
use tonic::{Code, Status};

use crate::world::{Client, World, customer, filing, rid};

chassis::db_tests!(
    the_tree_begins_with_the_causes_of_the_domain,
    a_new_cause_joins_the_tree_and_takes_complaints,
    a_cause_sent_again_gives_the_first_reply,
    a_request_id_with_another_cause_is_refused,
    a_cause_that_is_there_already_is_refused,
    a_cause_under_an_unknown_parent_is_refused,
    of_many_who_add_the_same_cause_one_wins,
    a_full_tree_takes_no_more,
);

fn cause(id: &str, parent: &str) -> pb::CreateCauseRequest {
    let cause = pb::Cause { cause_id: id.into(), parent_id: parent.into(), display_name: "Bad weather".into() };
    pb::CreateCauseRequest { request_id: rid(), cause: Some(cause) }
}

async fn create(client: &Client, request: pb::CreateCauseRequest) -> Result<pb::Cause, Status> {
    Ok(client.clone().create_cause(request).await?.into_inner().cause.unwrap())
}

async fn causes(client: &Client) -> Vec<pb::Cause> {
    client.clone().list_causes(pb::ListCausesRequest {}).await.unwrap().into_inner().causes
}

async fn the_tree_begins_with_the_causes_of_the_domain(backend: Backend) {
    let world = World::start(backend).await;
    let causes = causes(&world.client()).await;
    let shown: Vec<_> = causes.iter().map(|cause| format!("{}/{}", cause.parent_id, cause.cause_id)).collect();
    let expected = [
        "/attitude",
        "/deception",
        "deception/broken-promise",
        "deception/overstated-advertising",
        "/delivery-and-availability",
        "delivery-and-availability/availability",
        "delivery-and-availability/delivery",
        "/other",
        "/price-and-billing",
        "price-and-billing/billing",
        "price-and-billing/price",
        "/privacy",
        "/quality",
        "quality/product-quality",
        "quality/service-quality",
        "/safety",
    ];
    assert_eq!(shown, expected);
}

async fn a_new_cause_joins_the_tree_and_takes_complaints(backend: Backend) {
    let world = World::start(backend).await;
    let client = world.client();
    create(&client, cause("late", "delivery")).await.unwrap();
    create(&client, cause("late-by-weather", "late")).await.unwrap();
    let ids: Vec<_> = causes(&client).await.into_iter().map(|cause| cause.cause_id).collect();
    let place = ids.iter().position(|id| id == "delivery").unwrap();
    assert_eq!(&ids[place..place + 3], ["delivery", "late", "late-by-weather"]);
    let mut request = filing(customer(1), Severity::Minor);
    request.complaint.as_mut().unwrap().cause_id = "late-by-weather".into();
    client.clone().file_complaint(request).await.unwrap();
}

async fn a_cause_sent_again_gives_the_first_reply(backend: Backend) {
    let world = World::start(backend).await;
    let client = world.client();
    let request = cause("late", "delivery");
    let first = create(&client, request.clone()).await.unwrap();
    assert_eq!(create(&client, request).await.unwrap(), first);
    assert_eq!(causes(&client).await.len(), 17);
}

async fn a_request_id_with_another_cause_is_refused(backend: Backend) {
    let world = World::start(backend).await;
    let client = world.client();
    let request = cause("late", "delivery");
    create(&client, request.clone()).await.unwrap();
    let other = pb::CreateCauseRequest { request_id: request.request_id, ..cause("later", "delivery") };
    assert_eq!(fault(&create(&client, other).await.unwrap_err()).1, "REQUEST_ID_REUSED");
}

async fn a_cause_that_is_there_already_is_refused(backend: Backend) {
    let world = World::start(backend).await;
    let (code, reason, _) = fault(&create(&world.client(), cause("delivery", "")).await.unwrap_err());
    assert_eq!((code, reason.as_str()), (Code::AlreadyExists, "ALREADY_EXISTS"));
}

async fn a_cause_under_an_unknown_parent_is_refused(backend: Backend) {
    let world = World::start(backend).await;
    for parent in ["no-such-cause", "late"] {
        let (code, reason, _) = fault(&create(&world.client(), cause("late", parent)).await.unwrap_err());
        assert_eq!((code, reason.as_str()), (Code::NotFound, "NOT_FOUND"), "{parent}");
    }
}

async fn of_many_who_add_the_same_cause_one_wins(backend: Backend) {
    let world = World::start(backend).await;
    let calls = (0..12).map(|_| {
        let client = world.client();
        tokio::spawn(async move { create(&client, cause("late", "delivery")).await })
    });
    let results: Vec<_> = futures::future::join_all(calls).await.into_iter().map(Result::unwrap).collect();
    assert_eq!(results.iter().filter(|result| result.is_ok()).count(), 1);
    for status in results.into_iter().filter_map(Result::err) {
        assert_eq!(fault(&status).1, "ALREADY_EXISTS");
    }
}

async fn a_full_tree_takes_no_more(backend: Backend) {
    let world = World::start(backend).await;
    let client = world.client();
    let db = world.db().await;
    // All but one of the thousand, sixteen being there from the start.
    db.run_tx("fill", |tx| -> BoxFuture<'_, chassis::Result<()>> {
        Box::pin(async move {
            for number in 16..999 {
                let text = "INSERT INTO cause (cause_id, parent_id, display_name) VALUES ($1, 'other', 'One more')";
                tx.execute_raw(sql(&**tx, text, [format!("more-{number}").into()])).await?;
            }
            Ok(())
        })
    })
    .await
    .unwrap();
    let calls = (0..6).map(|number| {
        let client = client.clone();
        tokio::spawn(async move { create(&client, cause(&format!("last-{number}"), "other")).await })
    });
    let results: Vec<_> = futures::future::join_all(calls).await.into_iter().map(Result::unwrap).collect();
    assert_eq!(results.iter().filter(|result| result.is_ok()).count(), 1);
    for status in results.into_iter().filter_map(Result::err) {
        let (code, reason, _) = fault(&status);
        assert_eq!((code, reason.as_str()), (Code::FailedPrecondition, "WRONG_STATE"));
    }
    assert_eq!(causes(&client).await.len(), 1_000);
}
