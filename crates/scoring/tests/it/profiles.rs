//! What scoring keeps of profiles.
use chassis::{
    db_tests,
    testing::{Backend, eventually},
};
use proto::scoring::v1 as pb;

use crate::stand::{Stand, id, sale};

db_tests!(
    whoever_is_known_to_profiles_has_a_score,
    interest_and_choice_are_followed_and_announced,
    the_record_of_a_buyer_announces_nothing,
    a_restart_goes_on_where_it_was,
);

async fn relationship(stand: &Stand, customer: u128) -> Option<pb::Relationship> {
    let request = pb::GetScoreRequest { customer_id: id(customer).to_string(), ..Default::default() };
    let reply = stand.client.clone().get_score(request).await.ok()?.into_inner();
    Some(reply.score.unwrap().standing.unwrap().relationship())
}

async fn whoever_is_known_to_profiles_has_a_score(backend: Backend) {
    let stand = Stand::new(backend).await;
    stand.profiles.put(id(1), false, false);
    stand.profiles.feed();
    eventually("the customer arrives", async || relationship(&stand, 1).await.is_some()).await;
    let score = stand.score(id(1)).await;
    let standing = score.standing.unwrap();
    assert_eq!(standing.relationship(), pb::Relationship::NonCustomer);
    assert_eq!(standing.stage(), pb::LifeCycleStage::Acquisition);
    assert_eq!((standing.tier(), standing.code()), (pb::Tier::Unspecified, pb::CustomerCode::C));
    assert!(standing.estimated && standing.revision == 1);
    assert_eq!((score.summary, score.lifetime_value), (None, None));
    let counts = stand.client.clone().get_standing_counts(pb::GetStandingCountsRequest {}).await.unwrap();
    let counts = counts.into_inner().counts;
    assert_eq!(counts.len(), 1);
    assert_eq!((counts[0].relationship(), counts[0].customers), (pb::Relationship::NonCustomer, 1));
}

async fn interest_and_choice_are_followed_and_announced(backend: Backend) {
    let stand = Stand::new(backend).await;
    stand.profiles.feed();
    let steps = [
        (false, false, pb::Relationship::NonCustomer),
        (false, true, pb::Relationship::Target),
        (true, true, pb::Relationship::Potential),
    ];
    for (revision, (showed_interest, targeted, expected)) in (1..).zip(steps) {
        stand.profiles.put(id(1), showed_interest, targeted);
        eventually("the change arrives", async || relationship(&stand, 1).await == Some(expected)).await;
        assert_eq!(stand.score(id(1)).await.standing.unwrap().revision, revision);
    }
}

async fn the_record_of_a_buyer_announces_nothing(backend: Backend) {
    let stand = Stand::new(backend).await;
    stand.profiles.put(id(1), false, false);
    stand.record(vec![sale(1, id(1), 1, 100)]).await;
    let before = stand.score(id(1)).await;
    stand.profiles.put(id(1), true, true);
    stand.profiles.put(id(2), true, true);
    stand.profiles.feed();
    eventually("the later change arrives", async || relationship(&stand, 2).await.is_some()).await;
    assert_eq!(stand.score(id(1)).await, before);
}

async fn a_restart_goes_on_where_it_was(backend: Backend) {
    let stand = Stand::new(backend).await;
    stand.profiles.feed();
    stand.profiles.put(id(1), true, false);
    eventually("the first arrives", async || relationship(&stand, 1).await.is_some()).await;
    let stand = stand.restarted().await;
    stand.profiles.put(id(1), false, false);
    stand.profiles.put(id(2), false, true);
    eventually("the second arrives", async || relationship(&stand, 2).await.is_some()).await;
    assert_eq!(relationship(&stand, 1).await, Some(pb::Relationship::NonCustomer));
    assert_eq!(stand.score(id(1)).await.standing.unwrap().revision, 2);
}
