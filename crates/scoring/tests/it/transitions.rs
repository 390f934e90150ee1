//! Moves between states over a period.
use chassis::{
    db_tests,
    testing::{Backend, eventually, fault, noon},
};
use jiff::SignedDuration;
use proto::scoring::v1::{self as pb, Relationship};
use tonic::Status;
use uuid::Uuid;

use crate::{
    cdnow,
    stand::{Stand, id, sale},
};

db_tests!(
    moves_add_up_from_the_start_of_a_period_to_its_end,
    nobody_has_a_state_before_the_first_record,
    a_period_is_of_days_of_the_business_its_end_not_included,
    a_period_that_is_none_is_refused,
    what_is_recorded_adds_up_to_what_was_announced,
);

async fn ask(stand: &Stand, from: Option<&str>, to: Option<&str>) -> Result<pb::GetTransitionsResponse, Status> {
    let request = pb::GetTransitionsRequest { from: from.map(date), to: to.map(date) };
    stand.client.clone().get_transitions(request).await.map(tonic::Response::into_inner)
}

fn date(text: &str) -> pb::Date {
    let mut parts = text.split('-').map(|part| part.parse::<i32>().unwrap());
    let mut next = || parts.next().unwrap();
    pb::Date { year: next(), month: next(), day: next() }
}

/// (customers, moves) between two relationships.
fn cell(reply: &pb::GetTransitionsResponse, from: Relationship, to: Relationship) -> (i64, i64) {
    let cell = reply.relationships.iter().find(|cell| (cell.from(), cell.to()) == (from, to));
    cell.map_or((0, 0), |cell| (cell.customers, cell.moves))
}

/// Three customers: on the 14th two are known and one buys; on the 15th the buyer buys again, and the other for the first time.
async fn two_days(backend: Backend, time_zone: &str) -> Stand {
    let stand = Stand::at(backend, noon(), |config| config.time_zone = time_zone.into()).await;
    stand.profiles.know([id(1), id(2)]);
    stand.profiles.feed();
    eventually("both are known", || async { ask(&stand, None, None).await.unwrap().customers == 2 }).await;
    stand.record(vec![sale(1, id(1), 2, 100)]).await;
    stand.clock.advance(SignedDuration::from_hours(24));
    stand.record(vec![sale(2, id(1), 1, 100), sale(3, id(2), 0, 100)]).await;
    stand
}

async fn moves_add_up_from_the_start_of_a_period_to_its_end(backend: Backend) {
    use Relationship::{FirstTime, Potential, Repeat, Unspecified};
    let stand = two_days(backend, "UTC").await;
    let all = ask(&stand, None, None).await.unwrap();
    // From the first moment on: nobody was there before it.
    assert_eq!(cell(&all, Unspecified, Repeat), (1, 0));
    assert_eq!(cell(&all, Unspecified, FirstTime), (1, 0));
    // What was between is in the moves alone.
    assert_eq!(cell(&all, Unspecified, Potential), (0, 2));
    assert_eq!(cell(&all, Potential, FirstTime), (0, 2));
    assert_eq!(cell(&all, FirstTime, Repeat), (0, 1));
    assert_eq!(all.first_record_time, all.start_time);

    let second = ask(&stand, Some("2026-01-15"), None).await.unwrap();
    assert_eq!(cell(&second, FirstTime, Repeat), (1, 1));
    assert_eq!(cell(&second, Potential, FirstTime), (1, 1));
    assert_eq!(second.relationships.iter().map(|cell| cell.customers).sum::<i64>(), 2);

    let first = ask(&stand, None, Some("2026-01-15")).await.unwrap();
    assert_eq!(cell(&first, Unspecified, FirstTime), (1, 0));
    assert_eq!(cell(&first, Unspecified, Potential), (1, 2));
}

async fn nobody_has_a_state_before_the_first_record(backend: Backend) {
    let stand = two_days(backend, "UTC").await;
    let before = ask(&stand, Some("2025-01-01"), Some("2026-01-14")).await.unwrap();
    assert_eq!((before.customers, before.relationships.len(), before.tiers.len()), (0, 0, 0));
    assert!(before.retention.iter().all(|tier| tier.customers == 0 && tier.retention_rate.is_none()));
    // One that begins before it counts everybody as new.
    let since = ask(&stand, Some("2025-01-01"), None).await.unwrap();
    assert_eq!(since.customers, 2);
    assert!(since.relationships.iter().all(|cell| cell.customers == 0 || cell.from() == Relationship::Unspecified));

    let empty = Stand::new(backend).await;
    let reply = ask(&empty, None, None).await.unwrap();
    assert_eq!((reply.customers, reply.first_record_time, reply.retention.len()), (0, None, 4));
}

async fn a_period_is_of_days_of_the_business_its_end_not_included(backend: Backend) {
    use Relationship::{FirstTime, Repeat};
    // Noon in London is nine in the evening in Tokyo; a day later it is the 15th there, too, and the day begins at 15:00 of the day before.
    let stand = two_days(backend, "Asia/Tokyo").await;
    let day = ask(&stand, Some("2026-01-15"), Some("2026-01-16")).await.unwrap();
    assert_eq!(
        day.start_time.as_ref().unwrap().seconds,
        "2026-01-14T15:00:00Z".parse::<jiff::Timestamp>().unwrap().as_second()
    );
    assert_eq!(cell(&day, FirstTime, Repeat), (1, 1));
    let nothing = ask(&stand, Some("2026-01-15"), Some("2026-01-15")).await.unwrap();
    assert_eq!(cell(&nothing, FirstTime, Repeat), (0, 0));
    assert_eq!(cell(&nothing, FirstTime, FirstTime), (1, 0));
}

async fn a_period_that_is_none_is_refused(backend: Backend) {
    let stand = Stand::new(backend).await;
    for (from, to, field) in [
        (Some("2026-01-15"), None, "from"),
        (Some("1899-01-01"), None, "from"),
        (None, Some("2026-01-16"), "to"),
        (None, Some("2026-02-30"), "to"),
        (Some("2026-01-10"), Some("2026-01-09"), "to"),
    ] {
        let (code, reason, fields) = fault(&ask(&stand, from, to).await.unwrap_err());
        assert_eq!(
            (code, reason.as_str(), fields),
            (tonic::Code::InvalidArgument, "INVALID_FIELD", vec![field.to_owned()])
        );
    }
    ask(&stand, Some("2026-01-14"), Some("2026-01-15")).await.unwrap();
}

async fn what_is_recorded_adds_up_to_what_was_announced(backend: Backend) {
    let stand = Stand::at(backend, "1998-07-01T09:00:00Z".parse().unwrap(), |_| {}).await;
    let rows = cdnow::purchases();
    stand.profiles.know(cdnow::customers(&rows));
    cdnow::load(&stand, &rows).await;
    stand.fit("fit").await;
    stand.rank("rank").await;
    // Half a year of silence: many are lost by it, and nobody is won back.
    stand.clock.advance(SignedDuration::from_hours(24 * 180));
    let mut computed: Vec<(Uuid, pb::Score)> = Vec::new();
    for chunk in cdnow::customers(&rows).into_iter().collect::<Vec<_>>().chunks(1_000) {
        let customer_ids = chunk.iter().map(Uuid::to_string).collect();
        let request = pb::BatchGetScoresRequest { customer_ids, ..Default::default() };
        let scores = stand.client.clone().batch_get_scores(request).await.unwrap().into_inner().scores;
        computed.extend(chunk.iter().copied().zip(scores));
    }
    let is_lost = |score: &pb::Score| score.standing.as_ref().unwrap().relationship() == Relationship::Lost;
    let lost = computed.iter().filter(|(_, score)| is_lost(score)).count() as i64;
    let of = |counts: &[pb::StandingCount], is: &dyn Fn(&pb::StandingCount) -> bool| {
        counts.iter().filter(|count| is(count)).map(|count| count.customers).sum::<i64>()
    };
    let counts = || async {
        let counts = stand.client.clone().get_standing_counts(pb::GetStandingCountsRequest {}).await.unwrap();
        counts.into_inner().counts
    };
    eventually("the sweep has found all who fell silent", || async {
        of(&counts().await, &|count| count.relationship() == Relationship::Lost) == lost
    })
    .await;
    let reply = ask(&stand, Some("1998-07-02"), None).await.unwrap();
    let now = counts().await;
    assert_eq!(reply.customers, 2_357);
    for relationship in [Relationship::FirstTime, Relationship::Repeat, Relationship::Loyal, Relationship::Lost] {
        let stood = reply.relationships.iter().filter(|cell| cell.to() == relationship);
        let announced = of(&now, &|count| count.relationship() == relationship);
        assert_eq!(stood.map(|cell| cell.customers).sum::<i64>(), announced, "{relationship:?}");
    }
    for tier in &reply.retention {
        let started =
            reply.tiers.iter().filter(|cell| cell.from() == tier.tier()).map(|cell| cell.customers).sum::<i64>();
        assert!(tier.customers > 0 && tier.customers <= started && tier.lost > 0, "{tier:?}");
        assert_eq!(tier.retained + tier.lost, tier.customers);
    }
    assert_eq!(reply.regained, 0);

    // One comes back.
    let comes = |(_, score): &&(Uuid, pb::Score)| is_lost(score) && score.summary.as_ref().unwrap().occasions > 1;
    let customer = computed.iter().find(comes).unwrap().0;
    let time = chassis::clock::to_proto(stand.clock.now());
    stand.record(vec![pb::Purchase { purchase_time: Some(time), ..sale("back", customer, 0, 5_000) }]).await;
    let reply = ask(&stand, Some("1998-12-27"), None).await.unwrap();
    assert_eq!(reply.regained, 1, "{:?}", reply.relationships);
}
