//! What scoring keeps of profiles.
use chassis::{
    clock::to_proto,
    db_tests,
    testing::{Backend, eventually, fault, noon},
};
use proto::scoring::v1 as pb;
use tonic::Code;

use crate::stand::{Stand, id, sale};

db_tests!(
    whoever_is_known_to_profiles_has_a_score,
    who_has_not_arrived_yet_has_a_score_if_profiles_knows_them,
    without_an_answer_of_profiles_nobody_is_not_found,
    customers_whose_records_do_not_fit_into_one_answer_are_asked_for_in_parts,
    interest_and_choice_are_followed_and_announced,
    the_record_of_a_buyer_announces_nothing,
    a_restart_goes_on_where_it_was,
    a_snapshot_replaces_a_newer_revision,
);

/// As it was announced; absent before.
async fn relationship(stand: &Stand, customer: u128) -> Option<pb::Relationship> {
    let request = pb::GetScoreRequest { customer_id: id(customer).to_string(), ..Default::default() };
    let reply = stand.client.clone().get_score(request).await.ok()?.into_inner();
    let standing = reply.score.unwrap().standing.unwrap();
    (standing.revision > 0).then(|| standing.relationship())
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

async fn who_has_not_arrived_yet_has_a_score_if_profiles_knows_them(backend: Backend) {
    let stand = Stand::new(backend).await;
    stand.profiles.put(id(1), false, true);
    stand.profiles.know([id(2)]);
    stand.record(vec![sale(1, id(2), 1, 100)]).await;
    for as_of in [None, Some(to_proto(noon()))] {
        let request =
            pb::GetScoreRequest { customer_id: id(1).to_string(), as_of, with_evidence: false, ..Default::default() };
        let score = stand.client.clone().get_score(request).await.unwrap().into_inner().score.unwrap();
        let standing = score.standing.unwrap();
        assert_eq!((standing.relationship(), standing.revision), (pb::Relationship::Target, 0));
        assert_eq!((score.summary, score.lifetime_value), (None, None));
        let customer_ids = [2, 1, 9, 2].map(|n| id(n).to_string()).to_vec();
        let request = pb::BatchGetScoresRequest { customer_ids, as_of, with_evidence: false, ..Default::default() };
        let reply = stand.client.clone().batch_get_scores(request).await.unwrap().into_inner();
        let listed: Vec<_> = reply.scores.into_iter().map(|score| score.standing.unwrap().customer_id).collect();
        assert_eq!(listed, [2, 1, 2].map(|n| id(n).to_string()));
        assert_eq!(reply.not_found, [id(9).to_string()]);
    }
    // Asking wrote nothing: the feed announces them, once.
    let counts = stand.client.clone().get_standing_counts(pb::GetStandingCountsRequest {}).await.unwrap();
    assert_eq!(counts.into_inner().counts.iter().map(|count| count.customers).sum::<i64>(), 1);
    stand.profiles.feed();
    eventually("the customer arrives", async || relationship(&stand, 1).await.is_some()).await;
    assert_eq!(stand.score(id(1)).await.standing.unwrap().revision, 1);
}

async fn without_an_answer_of_profiles_nobody_is_not_found(backend: Backend) {
    let stand = Stand::new(backend).await;
    stand.profiles.know([id(1)]);
    stand.record(vec![sale(1, id(1), 1, 100)]).await;
    stand.profiles.set_down(true);
    let request = pb::GetScoreRequest { customer_id: id(2).to_string(), ..Default::default() };
    let refused = stand.client.clone().get_score(request.clone()).await.unwrap_err();
    assert_eq!(fault(&refused), (Code::Unavailable, "PEER_UNAVAILABLE".into(), vec![]));
    let customer_ids = [1, 2].map(|n| id(n).to_string()).to_vec();
    let both = pb::BatchGetScoresRequest { customer_ids, ..Default::default() };
    assert_eq!(fault(&stand.client.clone().batch_get_scores(both).await.unwrap_err()).1, "PEER_UNAVAILABLE");
    // Who is known here needs no answer.
    stand.score(id(1)).await;
    stand.profiles.set_down(false);
    assert_eq!(fault(&stand.client.clone().get_score(request).await.unwrap_err()).1, "NOT_FOUND");
}

async fn customers_whose_records_do_not_fit_into_one_answer_are_asked_for_in_parts(backend: Backend) {
    let stand = Stand::new(backend).await;
    stand.profiles.know((1..=10).map(id));
    stand.profiles.answer_at_most(3);
    let customer_ids = (1..=11).map(|n| id(n).to_string()).collect();
    let request = pb::BatchGetScoresRequest { customer_ids, ..Default::default() };
    let reply = stand.client.clone().batch_get_scores(request).await.unwrap().into_inner();
    assert_eq!((reply.scores.len(), reply.not_found), (10, vec![id(11).to_string()]));
    // An answer that has no room for one is no answer.
    stand.profiles.answer_at_most(0);
    let request = pb::GetScoreRequest { customer_id: id(12).to_string(), ..Default::default() };
    assert_eq!(fault(&stand.client.clone().get_score(request).await.unwrap_err()).1, "PEER_UNAVAILABLE");
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

async fn a_snapshot_replaces_a_newer_revision(backend: Backend) {
    let stand = Stand::new(backend).await;
    stand.profiles.feed();
    for showed_interest in [false, true, false] {
        stand.profiles.put(id(1), showed_interest, false);
        stand.profiles.put(id(2), showed_interest, false);
    }
    let follow_up = async |customer, expected| {
        eventually("the news arrives", async || relationship(&stand, customer).await == Some(expected)).await;
    };
    stand.profiles.put(id(3), false, false);
    eventually("all changes arrive", async || relationship(&stand, 3).await.is_some()).await;
    // Profiles comes back from a copy in which the first had shown interest and the second had not.
    stand.profiles.restore(&[(id(1), true, false), (id(2), false, false)]);
    follow_up(1, pb::Relationship::Potential).await;
    // It counts on from there, also with one of whom the copy said what was known already.
    stand.profiles.put(id(2), false, true);
    follow_up(2, pb::Relationship::Target).await;
}
