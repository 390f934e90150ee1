use chassis::testing::{Backend, eventually};
use proto::{
    complaints::v1::ComplaintState,
    scoring::v1::{ScoreChange, Standing, Tier},
};

use crate::world::{Act, World, customer, file, get, hours, proto_at, read, ready_for};

chassis::db_tests!(
    a_tier_that_changes_changes_the_due_times_of_open_cases,
    cases_that_are_answered_keep_their_tier,
    older_news_changes_nothing,
    news_of_the_same_tier_touches_no_case_and_the_next_tier_counts,
    a_malformed_change_does_not_hold_up_the_others,
    a_tier_survives_a_kill,
    filings_and_news_at_once_agree_on_the_tier,
    a_snapshot_replaces_a_newer_revision,
);

/// Waits until all that scoring has said so far has arrived: the last it says is about somebody else.
async fn settle(world: &World, number: u128) {
    let marker = customer(1_000_000 + number);
    world.announce(marker, Tier::Major, 1).await;
    eventually("the news has arrived", || {
        let client = world.client();
        async move { file(&client, marker).await.tier() == Tier::Major }
    })
    .await;
}

async fn a_tier_that_changes_changes_the_due_times_of_open_cases(backend: Backend) {
    let world = World::start(backend).await;
    let client = world.client();
    let filed = file(&client, customer(1)).await;
    let waiting = ready_for(&client, customer(1), Act::Resume).await;
    let other = file(&client, customer(2)).await;
    world.pass(3);
    world.announce(customer(1), Tier::Important, 5).await;
    settle(&world, 1).await;
    let now = read(&client, &filed.complaint_id).await;
    // Three of eight hours have run since noon: two more today, three tomorrow.
    assert_eq!((now.tier(), now.allowed, now.elapsed), (Tier::Important, hours(8), hours(3)));
    assert_eq!(now.due_time, proto_at("2026-01-15T12:00:00Z"));
    assert_eq!(now.revision, filed.revision + 1);
    let steps = get(&client, &filed.complaint_id).await.steps;
    assert_eq!((steps[1].action.as_str(), steps[1].actor_id.as_str()), ("tier changed", "scoring"));
    // What waits still stands, and goes on by the new tier.
    let waiting = read(&client, &waiting.complaint_id).await;
    assert_eq!((waiting.state(), waiting.allowed, waiting.due_time), (ComplaintState::Waiting, hours(8), None));
    assert_eq!(read(&client, &other.complaint_id).await.revision, other.revision);
    assert_eq!(file(&client, customer(1)).await.tier(), Tier::Important);
}

async fn cases_that_are_answered_keep_their_tier(backend: Backend) {
    let world = World::start(backend).await;
    let client = world.client();
    let resolved = ready_for(&client, customer(1), Act::Close).await;
    world.announce(customer(1), Tier::Small, 1).await;
    settle(&world, 1).await;
    assert_eq!(read(&client, &resolved.complaint_id).await, resolved);
    // Reopened, it goes by the tier of today.
    let reopened = Act::Reopen.on(&client, &resolved).await;
    assert_eq!((reopened.tier(), reopened.allowed), (Tier::Small, hours(40)));
}

async fn older_news_changes_nothing(backend: Backend) {
    let world = World::start(backend).await;
    let client = world.client();
    let filed = file(&client, customer(1)).await;
    world.announce(customer(1), Tier::Important, 7).await;
    world.announce(customer(1), Tier::Small, 6).await;
    world.announce(customer(1), Tier::Small, 7).await;
    settle(&world, 1).await;
    let first = read(&client, &filed.complaint_id).await;
    assert_eq!((first.tier(), first.revision), (Tier::Important, filed.revision + 1));
    // The same news of another batch.
    world.announce(customer(1), Tier::Small, 6).await;
    settle(&world, 2).await;
    assert_eq!(read(&client, &filed.complaint_id).await, first);
}

async fn news_of_the_same_tier_touches_no_case_and_the_next_tier_counts(backend: Backend) {
    let world = World::start(backend).await;
    let client = world.client();
    let filed = file(&client, customer(1)).await;
    world.announce(customer(1), Tier::Important, 5).await;
    settle(&world, 1).await;
    let important = read(&client, &filed.complaint_id).await;
    // Another code or stage: a change of scoring's that says nothing here.
    world.announce(customer(1), Tier::Important, 6).await;
    settle(&world, 2).await;
    assert_eq!(read(&client, &filed.complaint_id).await, important);
    world.announce(customer(1), Tier::Small, 7).await;
    settle(&world, 3).await;
    let small = read(&client, &filed.complaint_id).await;
    assert_eq!((small.tier(), small.revision), (Tier::Small, important.revision + 1));
}

async fn a_malformed_change_does_not_hold_up_the_others(backend: Backend) {
    let world = World::start(backend).await;
    let nobody = Standing { customer_id: "nobody".into(), revision: 1, ..Standing::default() };
    world.announce_raw(ScoreChange { standing: Some(nobody), ..ScoreChange::default() }, customer(3)).await;
    world.announce_raw(ScoreChange::default(), customer(4)).await;
    // A tier that a newer scoring knows and this program does not.
    let newer = Standing { customer_id: customer(5).to_string(), revision: 1, tier: 99, ..Standing::default() };
    world.announce_raw(ScoreChange { standing: Some(newer), ..ScoreChange::default() }, customer(5)).await;
    settle(&world, 1).await;
    assert_eq!(file(&world.client(), customer(5)).await.tier(), Tier::Unspecified);
}

async fn a_tier_survives_a_kill(backend: Backend) {
    let world = World::start(backend).await;
    world.announce(customer(1), Tier::Important, 1).await;
    settle(&world, 1).await;
    let world = world.restart().await;
    assert_eq!(file(&world.client(), customer(1)).await.tier(), Tier::Important);
    world.announce(customer(1), Tier::Small, 2).await;
    // The one who was killed gave no lease back: the next takes it over once it has run out.
    world.clock.advance(jiff::SignedDuration::from_secs(60));
    settle(&world, 2).await;
    assert_eq!(file(&world.client(), customer(1)).await.tier(), Tier::Small);
}

async fn filings_and_news_at_once_agree_on_the_tier(backend: Backend) {
    let world = World::start(backend).await;
    let calls = (0..8).map(|_| {
        let client = world.client();
        tokio::spawn(async move {
            let mut ids = Vec::new();
            for number in 0..5 {
                ids.push(file(&client, customer(number)).await.complaint_id);
            }
            ids
        })
    });
    let calls: Vec<_> = calls.collect();
    let tiers = [Tier::Important, Tier::Major, Tier::Ordinary, Tier::Small];
    for revision in 1..=20 {
        for number in 0..5 {
            let tier = tiers[usize::try_from(revision).unwrap() % 4];
            world.announce(customer(number), tier, revision).await;
        }
    }
    let ids: Vec<_> = futures::future::join_all(calls).await.into_iter().flat_map(Result::unwrap).collect();
    settle(&world, 1).await;
    for id in ids {
        assert_eq!(read(&world.client(), &id).await.tier(), Tier::Important);
    }
}

async fn a_snapshot_replaces_a_newer_revision(backend: Backend) {
    let world = World::start(backend).await;
    let filed = file(&world.client(), customer(1)).await;
    world.announce(customer(1), Tier::Important, 7).await;
    settle(&world, 1).await;
    assert_eq!(read(&world.client(), &filed.complaint_id).await.tier(), Tier::Important);
    let world = world.replace_scoring(customer(1), Tier::Small, 2).await;
    settle(&world, 2).await;
    assert_eq!(read(&world.client(), &filed.complaint_id).await.tier(), Tier::Small);
    // It counts on from there.
    world.announce(customer(1), Tier::Major, 3).await;
    settle(&world, 3).await;
    assert_eq!(read(&world.client(), &filed.complaint_id).await.tier(), Tier::Major);
}
