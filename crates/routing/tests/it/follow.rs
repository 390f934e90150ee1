//! How the view is kept fresh: over restarts, on a second replica, without peers.
use chassis::testing::{Backend, TempDb, eventually};
use proto::{
    complaints::v1::ComplaintState,
    routing::v1::{ContactPurpose as Purpose, routing_client::RoutingClient},
    scoring::v1::{CustomerCode as Code, ScoreChange, Tier},
};

use sea_orm::ConnectionTrait;

use crate::support::{Peers, Suite, case, decide, decide_phone, id, record, replica, standing};

async fn older_news_of_a_standing_changes_nothing(backend: Backend) {
    let suite = Suite::start(backend).await;
    suite.peers.stands(id(1), 3, Tier::Important, Code::A);
    suite.peers.stands(id(1), 2, Tier::Small, Code::C);
    suite.peers.stands(id(2), 1, Tier::Small, Code::C);
    eventually("all is followed", || async { !decide(&suite.client, id(2), "phone", Purpose::Order).await.prospect })
        .await;
    let standing = decide(&suite.client, id(1), "phone", Purpose::Order).await.standing.unwrap();
    assert_eq!((standing.revision, standing.tier()), (3, Tier::Important));
}

async fn a_replica_that_does_not_follow_is_as_fresh(backend: Backend) {
    let suite = Suite::start(backend).await;
    suite.peers.stands(id(1), 1, Tier::Small, Code::C);
    eventually("the first replica follows", || async {
        !decide(&suite.client, id(1), "phone", Purpose::Order).await.prospect
    })
    .await;
    // Its peers never say anything, and the first replica holds the lease.
    let second = replica(&suite.db, &suite.clock, &[], Peers::default().services()).await;
    let second = RoutingClient::new(second.channel());
    assert!(!decide(&second, id(1), "phone", Purpose::Order).await.prospect, "known from the first answer on");
    suite.peers.stands(id(1), 2, Tier::Important, Code::A);
    suite.peers.record(id(1), 1, &["+441632960001"]);
    suite.peers.complaint(id(100), id(1), 1, ComplaintState::Filed);
    eventually("the second replica knows it too", || async {
        let decision = decide_phone(&second, "+441632960001").await;
        decision.queue_id == "phone-vip" && decision.selling_paused
    })
    .await;
}

async fn after_a_restart_all_is_known_before_the_first_answer_without_any_peer(backend: Backend) {
    // More than two pages of a snapshot.
    const CUSTOMERS: u128 = 2_500;
    let db = TempDb::new(backend).await;
    let suite = Suite::start_on(db, Peers::default()).await;
    suite.peers.scores.publish(
        (1..=CUSTOMERS)
            .map(|n| ScoreChange { standing: Some(standing(id(n), 1, Tier::Major, Code::B)), ..Default::default() }),
    );
    suite.peers.record(id(CUSTOMERS), 1, &["+441632960001"]);
    suite.peers.complaint(id(9_000), id(CUSTOMERS), 1, ComplaintState::Open);
    eventually("all are followed", || async {
        let last = decide_phone(&suite.client, "+441632960001").await;
        last.selling_paused && last.standing.is_some()
    })
    .await;
    let Suite { db, server, clock, .. } = suite;
    server.kill().await;

    let nowhere: Vec<_> =
        ["scoring", "profiles", "complaints"].map(|peer| (peer, "http://127.0.0.1:1".to_owned())).into();
    let server = replica(&db, &clock, &nowhere, Vec::new()).await;
    let client = RoutingClient::new(server.channel());
    let last = decide_phone(&client, "+441632960001").await;
    assert!(last.selling_paused && last.standing.is_some());
    for n in [1, 999, 1_000, 1_001, 2_000, CUSTOMERS] {
        assert_eq!(decide(&client, id(n), "phone", Purpose::Order).await.queue_id, "phone-key", "{n}");
    }
    server.stop().await.unwrap();
}

async fn a_change_without_a_valid_id_is_left_out_and_the_rest_goes_on(backend: Backend) {
    let suite = Suite::start(backend).await;
    suite.peers.scores.publish([
        ScoreChange::default(),
        ScoreChange {
            standing: Some(proto::scoring::v1::Standing { customer_id: "x".into(), ..Default::default() }),
            ..Default::default()
        },
    ]);
    suite.peers.stands(id(1), 1, Tier::Major, Code::B);
    eventually("the rest is followed", || async {
        !decide(&suite.client, id(1), "phone", Purpose::Order).await.prospect
    })
    .await;
}

async fn many_changes_under_way_end_where_the_peers_ended(backend: Backend) {
    let suite = Suite::start(backend).await;
    for revision in 1..=40 {
        for customer in 1..=50 {
            let tier = if (revision + customer as i64) % 2 == 0 { Tier::Important } else { Tier::Small };
            suite.peers.stands(id(customer), revision, tier, Code::B);
            suite.peers.record(id(customer), revision, &[&format!("+4416329{revision:03}{customer:03}")]);
        }
    }
    eventually("the last change is followed", || async {
        let last = decide_phone(&suite.client, "+4416329040050").await;
        last.standing.is_some_and(|standing| standing.revision == 40)
    })
    .await;
    for customer in 1..=50_i64 {
        let n = u128::from(customer.unsigned_abs());
        let decision = decide_phone(&suite.client, &format!("+4416329040{customer:03}")).await;
        assert_eq!(decision.customer_id, id(n).to_string());
        let tier = if (40 + customer) % 2 == 0 { Tier::Important } else { Tier::Small };
        assert_eq!(decision.standing.unwrap().tier(), tier);
        assert!(decide_phone(&suite.client, &format!("+4416329039{customer:03}")).await.prospect);
    }
}

async fn a_snapshot_replaces_newer_revisions_and_complaints_that_it_does_not_name_are_dropped(backend: Backend) {
    let suite = Suite::start(backend).await;
    let peers = &suite.peers;
    peers.stands(id(1), 7, Tier::Important, Code::A);
    peers.record(id(1), 7, &["+441632960001"]);
    peers.complaint(id(100), id(1), 9, ComplaintState::Closed);
    peers.record(id(2), 1, &["+441632960002"]);
    peers.complaint(id(200), id(2), 1, ComplaintState::Filed);
    eventually("all is followed", || async {
        let (one, two) =
            (decide_phone(&suite.client, "+441632960001").await, decide_phone(&suite.client, "+441632960002").await);
        one.standing.is_some() && two.selling_paused
    })
    .await;
    // All three come back from a copy: tier and number were others, the first complaint was open, the second not yet filed.
    let before = ScoreChange { standing: Some(standing(id(1), 2, Tier::Small, Code::C)), ..Default::default() };
    peers.scores.restore([before]);
    peers.customers.restore([record(id(1), 2, &["+441632960009"]), record(id(2), 1, &["+441632960002"])]);
    peers.cases.restore([case(id(100), id(1), 2, ComplaintState::Waiting)]);
    eventually("their present state is followed", || async {
        let one = decide_phone(&suite.client, "+441632960009").await;
        let two = decide_phone(&suite.client, "+441632960002").await;
        let tier = one.standing.map(|standing| (standing.revision, standing.tier()));
        tier == Some((2, Tier::Small)) && one.selling_paused && !two.selling_paused
    })
    .await;
    assert!(decide_phone(&suite.client, "+441632960001").await.prospect, "the number of after the copy is nobody's");
    // They count on from there.
    peers.stands(id(1), 3, Tier::Major, Code::B);
    peers.record(id(1), 3, &["+441632960003"]);
    peers.complaint(id(100), id(1), 3, ComplaintState::Resolved);
    eventually("what comes after is followed", || async {
        let one = decide_phone(&suite.client, "+441632960003").await;
        one.standing.is_some_and(|standing| standing.tier() == Tier::Major) && !one.selling_paused
    })
    .await;
}

async fn a_view_whose_connections_were_cut_opens_its_feed_again(backend: Backend) {
    let suite = Suite::start(backend).await;
    if backend == Backend::Postgres {
        let db = sea_orm::Database::connect(suite.db.url()).await.unwrap();
        let cut = "SELECT pg_terminate_backend(pid) FROM pg_stat_activity \
                   WHERE datname = current_database() AND pid <> pg_backend_pid()";
        db.execute_unprepared(cut).await.unwrap();
        db.close().await.unwrap();
    }
    suite.peers.stands(id(1), 1, Tier::Major, Code::B);
    eventually("it goes on", || async { !decide(&suite.client, id(1), "phone", Purpose::Order).await.prospect }).await;
}

chassis::db_tests!(
    a_view_whose_connections_were_cut_opens_its_feed_again,
    older_news_of_a_standing_changes_nothing,
    a_replica_that_does_not_follow_is_as_fresh,
    after_a_restart_all_is_known_before_the_first_answer_without_any_peer,
    a_change_without_a_valid_id_is_left_out_and_the_rest_goes_on,
    many_changes_under_way_end_where_the_peers_ended,
    a_snapshot_replaces_newer_revisions_and_complaints_that_it_does_not_name_are_dropped,
);
