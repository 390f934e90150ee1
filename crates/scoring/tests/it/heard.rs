//! Watchers of feeds that resume at either of two replicas, and what must be true of all that they heard.
use std::{
    collections::{BTreeMap, BTreeSet},
    sync::{Arc, Mutex},
    time::Duration,
};

use chassis::testing::{eventually, fault};
use futures::future::BoxFuture;
use proto::{
    common::v1::{FeedMark, FeedPosition},
    scoring::v1::{self as pb, watch_scores_response, watch_segment_response},
};
use sea_orm::DatabaseConnection;
use tokio::task::JoinSet;
use tonic::{Status, Streaming};

use crate::{
    replica::{Random, Replicas},
    stand::Client,
};

/// How long one call may take before it is made again, perhaps at the other replica.
const PATIENCE: Duration = Duration::from_secs(10);

/// All that a watcher heard, in order.
#[derive(Default)]
pub(crate) struct Heard<C> {
    cursor: String,
    pub(crate) snapshot: Vec<C>,
    /// With their numbers in the feed.
    pub(crate) changes: Vec<(i64, C)>,
    /// How often the stream broke off or was left, and was resumed.
    pub(crate) resumed: usize,
}

pub(crate) type Ear<C> = Arc<Mutex<Heard<C>>>;

/// One of the two feeds.
pub(crate) trait Feed: Send + 'static {
    type Message: Send;
    type Change: Default + Send;
    const TOPIC: &str;
    fn open(client: Client, cursor: String) -> BoxFuture<'static, Result<Streaming<Self::Message>, Status>>;
    /// Where a message stands, and its change or mark.
    fn read(message: Self::Message) -> (FeedPosition, Result<Self::Change, FeedMark>);
}

pub(crate) struct Scores;

impl Feed for Scores {
    type Message = pb::WatchScoresResponse;
    type Change = pb::ScoreChange;
    const TOPIC: &str = "scores";

    fn open(mut client: Client, cursor: String) -> BoxFuture<'static, Result<Streaming<Self::Message>, Status>> {
        let request = pb::WatchScoresRequest { cursor, only_new: false };
        Box::pin(async move { Ok(client.watch_scores(request).await?.into_inner()) })
    }

    fn read(message: Self::Message) -> (FeedPosition, Result<Self::Change, FeedMark>) {
        use watch_scores_response::Event;
        let change = match message.event.unwrap() {
            Event::Change(change) => Ok(change),
            Event::Mark(mark) => Err(FeedMark::try_from(mark).unwrap()),
        };
        (message.position.unwrap(), change)
    }
}

pub(crate) struct Segments;

impl Feed for Segments {
    type Message = pb::WatchSegmentResponse;
    type Change = pb::SegmentChange;
    const TOPIC: &str = "segments";

    fn open(mut client: Client, cursor: String) -> BoxFuture<'static, Result<Streaming<Self::Message>, Status>> {
        let request = pb::WatchSegmentRequest { cursor, ..Default::default() };
        Box::pin(async move { Ok(client.watch_segment(request).await?.into_inner()) })
    }

    fn read(message: Self::Message) -> (FeedPosition, Result<Self::Change, FeedMark>) {
        use watch_segment_response::Event;
        let change = match message.event.unwrap() {
            Event::Change(change) => Ok(change),
            Event::Mark(mark) => Err(FeedMark::try_from(mark).unwrap()),
        };
        (message.position.unwrap(), change)
    }
}

/// Reads until the snapshot is complete, or so many changes; with the cursor of each, and the snapshot's own behind it.
pub(crate) async fn hear<F: Feed>(
    mut stream: Streaming<F::Message>,
    changes: Option<usize>,
) -> Vec<(F::Change, String)> {
    let mut heard = Vec::new();
    while changes != Some(heard.len()) {
        let (position, change) = F::read(stream.message().await.unwrap().unwrap());
        match change {
            Ok(change) => heard.push((change, position.cursor)),
            Err(FeedMark::SnapshotComplete) if changes.is_none() => {
                heard.push((F::Change::default(), position.cursor));
                break;
            }
            Err(_) => {}
        }
    }
    heard
}

/// Watches a feed for good, now here, now there, from the cursor of the last message.
pub(crate) async fn follow<F: Feed>(replicas: Replicas, mut random: Random, ear: Ear<F::Change>) {
    loop {
        let cursor = ear.lock().unwrap().cursor.clone();
        // The snapshot is read in one piece.
        let patience = if cursor.is_empty() { PATIENCE } else { random.moment(1_500) };
        let client = replicas.either(&mut random).await;
        let watching = async {
            let Ok(mut stream) = F::open(client, cursor).await else { return };
            while let Ok(Some(message)) = stream.message().await {
                let (position, change) = F::read(message);
                let mut heard = ear.lock().unwrap();
                match change {
                    Ok(change) if heard.cursor.is_empty() => heard.snapshot.push(change),
                    Ok(change) => heard.changes.push((position.sequence, change)),
                    Err(_) => {}
                }
                if !position.cursor.is_empty() {
                    heard.cursor = position.cursor;
                }
            }
        };
        let _ = tokio::time::timeout(patience, watching).await;
        ear.lock().unwrap().resumed += 1;
    }
}

/// Starts watching a feed; returns once its snapshot is complete.
pub(crate) async fn listen<F: Feed>(
    tasks: &mut JoinSet<()>,
    replicas: &Replicas,
    random: &mut Random,
) -> Ear<F::Change> {
    let ear = Ear::default();
    tasks.spawn(follow::<F>(replicas.clone(), random.branch(), Arc::clone(&ear)));
    eventually("the snapshot is complete", || async { !ear.lock().unwrap().cursor.is_empty() }).await;
    ear
}

/// Calls until it is answered, now here, now there: what a client behind a balancer does. A fault inside is never an answer.
pub(crate) async fn answered<T>(
    replicas: &Replicas,
    random: &mut Random,
    call: impl Fn(Client) -> BoxFuture<'static, Result<T, Status>>,
) -> T {
    loop {
        let client = replicas.either(random).await;
        match tokio::time::timeout(PATIENCE, call(client)).await {
            Ok(Ok(answer)) => return answer,
            Ok(Err(status)) => assert_ne!(fault(&status).1, "INTERNAL", "{status:?}"),
            Err(_) => {}
        }
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
}

/// The number of the last change heard.
pub(crate) fn heard_to<C>(ear: &Ear<C>) -> i64 {
    ear.lock().unwrap().changes.last().map_or(0, |change| change.0)
}

/// The number of the last change published, of those that are still kept.
pub(crate) async fn last(outbox: &DatabaseConnection, topic: &'static str) -> i64 {
    chassis::testing::published(outbox, topic).await.unwrap().last().map_or(0, |(seq, ..)| *seq)
}

/// Everybody's score, as one replica says.
pub(crate) async fn scores(client: &Client) -> BTreeMap<String, pb::Score> {
    let mut scores = BTreeMap::new();
    let mut page_token = String::new();
    loop {
        let request = pb::ListScoresRequest { page_size: 1_000, page_token, ..Default::default() };
        let page = client.clone().list_scores(request).await.unwrap().into_inner();
        let by_id = |score: pb::Score| (score.standing.as_ref().unwrap().customer_id.clone(), score);
        scores.extend(page.scores.into_iter().map(by_id));
        page_token = page.next_page_token;
        if page_token.is_empty() {
            return scores;
        }
    }
}

pub(crate) async fn members(client: &Client, segment: &str) -> BTreeSet<String> {
    let mut members = BTreeSet::new();
    let mut page_token = String::new();
    loop {
        let request = pb::ListSegmentMembersRequest { segment_id: segment.into(), page_size: 1_000, page_token };
        let page = client.clone().list_segment_members(request).await.unwrap().into_inner();
        members.extend(page.members.into_iter().map(|member| member.customer_id));
        page_token = page.next_page_token;
        if page_token.is_empty() {
            return members;
        }
    }
}

/// Where everybody stands by what was heard.
pub(crate) fn standings(heard: &Heard<pb::ScoreChange>) -> BTreeMap<String, pb::Standing> {
    let changes = heard.snapshot.iter().chain(heard.changes.iter().map(|(_, change)| change));
    let standing = |change: &pb::ScoreChange| change.standing.clone().unwrap();
    changes.map(standing).map(|standing| (standing.customer_id.clone(), standing)).collect()
}

/// Each change once, in the order of the revisions, none left out.
pub(crate) fn assert_each_standing_once(heard: &Heard<pb::ScoreChange>) {
    let snapshot = Heard { snapshot: heard.snapshot.clone(), ..Heard::default() };
    let (mut known, mut before) = (standings(&snapshot), 0);
    for (number, change) in &heard.changes {
        assert!(*number > before, "{number} after {before}");
        before = *number;
        let standing = change.standing.clone().unwrap();
        let previous = known.insert(standing.customer_id.clone(), standing.clone());
        assert_eq!(change.previous, previous, "{change:?}");
        assert_eq!(standing.revision, previous.map_or(0, |previous| previous.revision) + 1, "{change:?}");
    }
}

/// Nobody enters where they are or leaves where they are not; who is in which segment at the end.
pub(crate) fn assert_each_entry_once(heard: &Heard<pb::SegmentChange>) -> BTreeSet<(String, String)> {
    let mut inside = BTreeSet::new();
    for change in &heard.snapshot {
        inside.extend(change.entered.iter().map(|segment| (segment.clone(), change.customer_id.clone())));
    }
    let mut before = 0;
    for (number, change) in &heard.changes {
        assert!(*number > before, "{number} after {before}");
        before = *number;
        for segment in &change.entered {
            assert!(inside.insert((segment.clone(), change.customer_id.clone())), "enters again: {change:?}");
        }
        for segment in &change.left {
            assert!(inside.remove(&(segment.clone(), change.customer_id.clone())), "leaves again: {change:?}");
        }
        assert!(!change.entered.is_empty() || !change.left.is_empty(), "{change:?}");
    }
    inside
}
