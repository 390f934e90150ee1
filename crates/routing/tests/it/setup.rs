//! Channels and queues.
use chassis::testing::{Backend, eventually, fault};
use proto::{
    common::v1::Money,
    routing::v1::{self as pb, ChannelKind, ContactPurpose as Purpose},
    scoring::v1::Tier,
};
use sea_orm::ConnectionTrait;
use tonic::{Code, Status};

use crate::support::{Suite, decide, id};

fn channel(id: &str) -> pb::Channel {
    pb::Channel {
        channel_id: id.into(),
        display_name: "Partner shops".into(),
        kind: ChannelKind::Partner.into(),
        cost_per_contact: Some(Money { currency_code: "USD".into(), minor_units: 400 }),
        capacity: 5,
        opening_hours: vec![pb::OpeningHours { weekday: 1, opens: "08:00".into(), closes: "24:00".into() }],
        relationship_building: 0.4,
        enabled: true,
        ..Default::default()
    }
}

fn queue(id: &str, channel_id: &str) -> pb::Queue {
    pb::Queue {
        queue_id: id.into(),
        display_name: "Partners".into(),
        channel_id: channel_id.into(),
        tiers: vec![Tier::Small.into()],
        purposes: vec![Purpose::Order.into()],
        priority: 7,
        target_answer_time: Some(prost_types::Duration { seconds: 30, nanos: 0 }),
        target_handling_time: Some(prost_types::Duration { seconds: 90, nanos: 0 }),
        enabled: true,
        ..Default::default()
    }
}

fn create_channel(request_id: &str, channel: pb::Channel) -> pb::CreateChannelRequest {
    pb::CreateChannelRequest { request_id: request_id.into(), channel: Some(channel) }
}

fn create_queue(request_id: &str, queue: pb::Queue) -> pb::CreateQueueRequest {
    pb::CreateQueueRequest { request_id: request_id.into(), queue: Some(queue) }
}

fn mask(paths: &[&str]) -> Option<prost_types::FieldMask> {
    Some(prost_types::FieldMask { paths: paths.iter().map(|path| (*path).to_owned()).collect() })
}

fn update_channel(request_id: &str, channel: pb::Channel, paths: &[&str]) -> pb::UpdateChannelRequest {
    pb::UpdateChannelRequest { request_id: request_id.into(), channel: Some(channel), update_mask: mask(paths) }
}

fn update_queue(request_id: &str, queue: pb::Queue, paths: &[&str]) -> pb::UpdateQueueRequest {
    pb::UpdateQueueRequest { request_id: request_id.into(), queue: Some(queue), update_mask: mask(paths) }
}

fn refused<T: std::fmt::Debug>(result: Result<T, Status>) -> (Code, String) {
    let (code, reason, _) = fault(&result.unwrap_err());
    (code, reason)
}

async fn the_first_start_has_channels_and_queues_and_a_second_adds_none(backend: Backend) {
    let suite = Suite::start(backend).await;
    let second = crate::support::replica(&suite.db, &suite.clock, &[], suite.peers.services()).await;
    let mut client = proto::routing::v1::routing_client::RoutingClient::new(second.channel());
    let channels = client.list_channels(pb::ListChannelsRequest {}).await.unwrap().into_inner().channels;
    let ids: Vec<_> = channels.iter().map(|channel| channel.channel_id.as_str()).collect();
    assert_eq!(ids, ["chat", "mail", "phone", "self-service", "shop", "visit"]);
    let queues = client.list_queues(pb::ListQueuesRequest {}).await.unwrap().into_inner().queues;
    assert_eq!(queues.len(), 17);
    assert!(queues.is_sorted_by(|a, b| a.queue_id < b.queue_id));
    assert!(queues.iter().all(|queue| ids.contains(&queue.channel_id.as_str())));
    let vip = queues.iter().find(|queue| queue.queue_id == "phone-vip").unwrap();
    assert_eq!(vip.target_answer_time.unwrap().seconds, 6);
}

async fn a_start_in_another_currency_than_the_channels_is_refused(backend: Backend) {
    let suite = Suite::start(backend).await;
    let start = |currency: &str| {
        let database_url = suite.db.url().into();
        let config = routing::Config { database_url, currency: currency.into(), ..routing::Config::default() };
        routing::service(config, suite.server.context.clone()).start
    };
    let refused = start("JPY").await.map(|_| ()).unwrap_err().to_string();
    assert!(refused.starts_with("routing.currency: ") && refused.contains("set it back to USD"), "{refused}");
    start("USD").await.unwrap();
}

async fn a_channel_is_created_once_however_often_it_is_sent(backend: Backend) {
    let suite = Suite::start(backend).await;
    let mut client = suite.client.clone();
    let request = create_channel("r1", channel("partner"));
    let created = client.create_channel(request.clone()).await.unwrap().into_inner().channel.unwrap();
    assert_eq!(created, pb::Channel { etag: created.etag.clone(), ..channel("partner") });
    let replay = client.create_channel(request).await.unwrap().into_inner().channel.unwrap();
    assert_eq!(replay, created);
    let read = client.get_channel(pb::GetChannelRequest { channel_id: "partner".into() }).await.unwrap().into_inner();
    assert_eq!(read.channel, Some(created));

    let other = client.create_channel(create_channel("r1", channel("other"))).await;
    assert_eq!(refused(other), (Code::InvalidArgument, "REQUEST_ID_REUSED".into()));
    let again = client.create_channel(create_channel("r2", channel("partner"))).await;
    assert_eq!(refused(again), (Code::AlreadyExists, "ALREADY_EXISTS".into()));
    let (_, _, fields) = fault(&client.create_channel(pb::CreateChannelRequest::default()).await.unwrap_err());
    assert_eq!(fields[..2], ["request_id", "channel"]);
    let missing = client.get_channel(pb::GetChannelRequest { channel_id: "nowhere".into() }).await;
    assert_eq!(refused(missing), (Code::NotFound, "NOT_FOUND".into()));
    let nonsense = client.get_channel(pb::GetChannelRequest { channel_id: "\0".into() }).await;
    assert_eq!(refused(nonsense), (Code::InvalidArgument, "INVALID_FIELD".into()));
}

async fn a_queue_is_created_once_in_a_channel_that_exists(backend: Backend) {
    let suite = Suite::start(backend).await;
    let mut client = suite.client.clone();
    let request = create_queue("r1", queue("orders", "phone"));
    let created = client.create_queue(request.clone()).await.unwrap().into_inner().queue.unwrap();
    assert_eq!(created, pb::Queue { etag: created.etag.clone(), ..queue("orders", "phone") });
    assert_eq!(client.create_queue(request).await.unwrap().into_inner().queue.unwrap(), created);
    let read = client.get_queue(pb::GetQueueRequest { queue_id: "orders".into() }).await.unwrap().into_inner();
    assert_eq!(read.queue, Some(created));

    let other = client.create_queue(create_queue("r1", queue("other", "phone"))).await;
    assert_eq!(refused(other), (Code::InvalidArgument, "REQUEST_ID_REUSED".into()));
    let again = client.create_queue(create_queue("r2", queue("orders", "phone"))).await;
    assert_eq!(refused(again), (Code::AlreadyExists, "ALREADY_EXISTS".into()));
    let nowhere = client.create_queue(create_queue("r3", queue("lost", "nowhere"))).await;
    assert_eq!(refused(nowhere), (Code::NotFound, "NOT_FOUND".into()));
    let (_, _, fields) = fault(&client.create_queue(pb::CreateQueueRequest::default()).await.unwrap_err());
    assert_eq!(fields[..2], ["request_id", "queue"]);
    let missing = client.get_queue(pb::GetQueueRequest { queue_id: "nowhere".into() }).await;
    assert_eq!(refused(missing), (Code::NotFound, "NOT_FOUND".into()));
}

async fn an_update_sets_what_the_mask_names_and_nothing_else(backend: Backend) {
    let suite = Suite::start(backend).await;
    let mut client = suite.client.clone();
    let get = pb::GetChannelRequest { channel_id: "chat".into() };
    let before = client.get_channel(get).await.unwrap().into_inner().channel.unwrap();
    let wanted = pb::Channel {
        channel_id: "chat".into(),
        etag: before.etag.clone(),
        display_name: "ignored".into(),
        capacity: 61,
        opening_hours: Vec::new(),
        ..Default::default()
    };
    let request = update_channel("u1", wanted.clone(), &["capacity", "opening_hours"]);
    let after = client.update_channel(request.clone()).await.unwrap().into_inner().channel.unwrap();
    let expected = pb::Channel { etag: after.etag.clone(), capacity: 61, opening_hours: Vec::new(), ..before.clone() };
    assert_eq!(after, expected);
    assert_ne!(after.etag, before.etag);
    assert_eq!(client.update_channel(request).await.unwrap().into_inner().channel.unwrap(), after, "a replay");

    let reused = client.update_channel(update_channel("u1", wanted.clone(), &["capacity"])).await;
    assert_eq!(refused(reused), (Code::InvalidArgument, "REQUEST_ID_REUSED".into()));
    let stale = client.update_channel(update_channel("u2", wanted.clone(), &["capacity"])).await;
    assert_eq!(refused(stale), (Code::Aborted, "ETAG_MISMATCH".into()));
    let missing = pb::Channel { channel_id: "nowhere".into(), ..wanted.clone() };
    let missing = client.update_channel(update_channel("u3", missing, &["capacity"])).await;
    assert_eq!(refused(missing), (Code::NotFound, "NOT_FOUND".into()));
    for paths in [&[][..], &["etag"], &["channel_id"], &["no_such"]] {
        let status = client.update_channel(update_channel("u4", wanted.clone(), paths)).await.unwrap_err();
        assert_eq!(fault(&status).2, ["update_mask"]);
    }
    let bad = pb::Channel { etag: String::new(), capacity: -1, ..wanted };
    let status = client.update_channel(update_channel("u5", bad, &["capacity"])).await.unwrap_err();
    assert_eq!(fault(&status).2, ["channel.etag", "channel.capacity"]);
    let status = client.update_channel(pb::UpdateChannelRequest::default()).await.unwrap_err();
    assert_eq!(fault(&status).2, ["request_id", "channel", "channel.channel_id", "channel.etag", "update_mask"]);
}

async fn a_changed_queue_counts_from_then_on(backend: Backend) {
    let suite = Suite::start(backend).await;
    let mut client = suite.client.clone();
    // What was answered before must not be answered again.
    let decision = decide(&suite.client, id(1), "phone", Purpose::Order).await;
    assert_eq!((decision.queue_id.as_str(), decision.priority), ("phone-general", 50));
    let get = pb::GetQueueRequest { queue_id: "phone-general".into() };
    let before = client.get_queue(get).await.unwrap().into_inner().queue.unwrap();
    let wanted = pb::Queue {
        queue_id: before.queue_id.clone(),
        etag: before.etag.clone(),
        priority: 33,
        target_answer_time: Some(prost_types::Duration { seconds: 20, nanos: 0 }),
        ..Default::default()
    };
    let request = update_queue("u1", wanted.clone(), &["priority", "target_answer_time"]);
    let after = client.update_queue(request.clone()).await.unwrap().into_inner().queue.unwrap();
    assert_eq!(
        (after.priority, after.target_answer_time, &after.display_name),
        (33, wanted.target_answer_time, &before.display_name)
    );
    assert_eq!(client.update_queue(request).await.unwrap().into_inner().queue.unwrap(), after);
    eventually("decisions follow it", || async {
        let decision = decide(&suite.client, id(1), "phone", Purpose::Order).await;
        decision.priority == 33 && decision.target_answer_time == wanted.target_answer_time
    })
    .await;

    let reused = client.update_queue(update_queue("u1", wanted.clone(), &["priority"])).await;
    assert_eq!(refused(reused), (Code::InvalidArgument, "REQUEST_ID_REUSED".into()));
    let stale = client.update_queue(update_queue("u2", wanted.clone(), &["priority"])).await;
    assert_eq!(refused(stale), (Code::Aborted, "ETAG_MISMATCH".into()));
    let missing = pb::Queue { queue_id: "nowhere".into(), ..wanted.clone() };
    let missing = client.update_queue(update_queue("u3", missing, &["priority"])).await;
    assert_eq!(refused(missing), (Code::NotFound, "NOT_FOUND".into()));
    let moved = pb::Queue { channel_id: "nowhere".into(), etag: after.etag.clone(), ..wanted.clone() };
    let moved = client.update_queue(update_queue("u4", moved, &["channel_id"])).await;
    assert_eq!(refused(moved), (Code::NotFound, "NOT_FOUND".into()));
    let status = client.update_queue(update_queue("u5", wanted, &["queue_id"])).await.unwrap_err();
    assert_eq!(fault(&status).2, ["update_mask"]);
}

async fn without_an_enabled_queue_the_answer_says_what_is_missing(backend: Backend) {
    let suite = Suite::start(backend).await;
    let mut client = suite.client.clone();
    decide(&suite.client, id(1), "phone", Purpose::Unspecified).await;
    let queues = client.list_queues(pb::ListQueuesRequest {}).await.unwrap().into_inner().queues;
    for queue in queues {
        let request_id = queue.queue_id.clone();
        let off = pb::Queue { enabled: false, ..queue };
        client.update_queue(update_queue(&request_id, off, &["enabled"])).await.unwrap();
    }
    let who = Some(pb::decide_request::Who::CustomerId(id(1).to_string()));
    let request = pb::DecideRequest { who, arrival_channel_id: "phone".into(), ..Default::default() };
    eventually("nothing can take it", || {
        let (mut client, request) = (client.clone(), request.clone());
        async move {
            client
                .decide(request)
                .await
                .is_err_and(|status| fault(&status) == (Code::FailedPrecondition, "WRONG_STATE".to_owned(), Vec::new()))
        }
    })
    .await;
}

async fn of_racing_updates_one_wins(backend: Backend) {
    let suite = Suite::start(backend).await;
    let mut client = suite.client.clone();
    let get = pb::GetChannelRequest { channel_id: "phone".into() };
    let etag = client.get_channel(get).await.unwrap().into_inner().channel.unwrap().etag;
    let racing = (0..20).map(|n| {
        let mut client = suite.client.clone();
        let wanted =
            pb::Channel { channel_id: "phone".into(), etag: etag.clone(), capacity: n + 1, ..Default::default() };
        async move { client.update_channel(update_channel(&format!("race{n}"), wanted, &["capacity"])).await }
    });
    let results = futures::future::join_all(racing).await;
    assert_eq!(results.iter().filter(|result| result.is_ok()).count(), 1);
    for result in results.into_iter().filter(Result::is_err) {
        assert_eq!(refused(result), (Code::Aborted, "ETAG_MISMATCH".into()));
    }
}

/// Writes rows past the API until there are `count`, which is quicker.
async fn fill(suite: &Suite, table: &str, columns: &str, values: &str, count: std::ops::Range<u32>) {
    let rows: Vec<_> = count.map(|n| format!("('x{n}', {values})")).collect();
    let db = sea_orm::Database::connect(suite.db.url()).await.unwrap();
    db.execute_unprepared(&format!("INSERT INTO {table} ({columns}) VALUES {}", rows.join(","))).await.unwrap();
    db.close().await.unwrap();
}

async fn racing_creations_stop_at_the_limit_and_each_counts_once(backend: Backend) {
    let suite = Suite::start(backend).await;
    let columns =
        "channel_id, revision, display_name, kind, currency, cost, capacity, hours, relationship_building, enabled";
    fill(&suite, "channel", columns, "1, 'x', 1, 'USD', 1, 1, '[]', 0.5, false", 6..195).await;
    let columns = "queue_id, revision, display_name, channel_id, tiers, purposes, priority, answer, handling, enabled";
    fill(&suite, "queue", columns, "1, 'x', 'phone', '[]', '[]', 9, 1000000, 1000000, false", 17..495).await;

    // Five places are left of each; eight are asked for, each twice.
    let channels = (0..16).map(|n| {
        let (mut client, id) = (suite.client.clone(), format!("c{}", n / 2));
        async move { client.create_channel(create_channel(&id, channel(&id))).await }
    });
    let queues = (0..16).map(|n| {
        let (mut client, id) = (suite.client.clone(), format!("q{}", n / 2));
        async move { client.create_queue(create_queue(&id, queue(&id, "phone"))).await }
    });
    let (channels, queues) = tokio::join!(futures::future::join_all(channels), futures::future::join_all(queues));
    assert_eq!(channels.iter().filter(|result| result.is_ok()).count(), 2 * 5);
    assert_eq!(queues.iter().filter(|result| result.is_ok()).count(), 2 * 5);
    for result in channels.into_iter().filter(Result::is_err) {
        assert_eq!(refused(result), (Code::FailedPrecondition, "WRONG_STATE".into()));
    }
    for result in queues.into_iter().filter(Result::is_err) {
        assert_eq!(refused(result), (Code::FailedPrecondition, "WRONG_STATE".into()));
    }
    let mut client = suite.client.clone();
    assert_eq!(client.list_channels(pb::ListChannelsRequest {}).await.unwrap().into_inner().channels.len(), 200);
    assert_eq!(client.list_queues(pb::ListQueuesRequest {}).await.unwrap().into_inner().queues.len(), 500);
}

chassis::db_tests!(
    the_first_start_has_channels_and_queues_and_a_second_adds_none,
    a_start_in_another_currency_than_the_channels_is_refused,
    a_channel_is_created_once_however_often_it_is_sent,
    a_queue_is_created_once_in_a_channel_that_exists,
    an_update_sets_what_the_mask_names_and_nothing_else,
    a_changed_queue_counts_from_then_on,
    without_an_enabled_queue_the_answer_says_what_is_missing,
    of_racing_updates_one_wins,
    racing_creations_stop_at_the_limit_and_each_counts_once,
);
