//! Mutations that are sent again.

use chassis::{
    Db, Result,
    clock::{self, Clock},
    idempotency::{self, Key},
    parse::Check,
    testing::{Backend, TempDb, fault, noon},
};
use futures::future::join_all;
use proto::scoring::v1::{GetScoreRequest, Standing};
use tonic::Code;
use uuid::Uuid;

use crate::support::{self, connect, contents, ids, number};

chassis::db_tests!(
    a_replay_gives_the_first_reply,
    a_request_id_with_another_body_is_refused,
    fifty_callers_with_one_request_id_have_one_effect,
    old_replies_are_forgotten,
);

/// A mutation as services write it.
async fn order(db: &Db, request_id: &str, body: &str, id: Uuid) -> Result<Standing> {
    let request = GetScoreRequest { customer_id: body.to_owned(), ..Default::default() };
    let mut check = Check::new();
    let key = &Key::parse(&mut check, "Order", request_id, &request);
    check.done()?;
    db.run_tx("order", |tx| {
        Box::pin(async move {
            if let Some(reply) = idempotency::replay(tx, key).await? {
                return Ok(reply);
            }
            let revision = support::bump_in(tx, &[id], 1).await?[0];
            idempotency::record(tx, key, support::standing(id, revision, 1)).await
        })
    })
    .await
}

async fn a_replay_gives_the_first_reply(backend: Backend) {
    let temp = TempDb::new(backend).await;
    let db = connect(temp.url()).await;
    let id = ids(1)[0];
    let first = order(&db, "r1", "body", id).await.unwrap();
    order(&db, "r2", "body", id).await.unwrap();
    // After a restart too.
    let again = order(&connect(temp.url()).await, "r1", "body", id).await.unwrap();
    assert_eq!(first, again);
    assert_eq!(contents(db.read(), "customer").await[&id].0, 2);
    assert_eq!(number(db.read(), "SELECT COUNT(*) FROM outbox").await, 2);
}

async fn a_request_id_with_another_body_is_refused(backend: Backend) {
    let temp = TempDb::new(backend).await;
    let db = connect(temp.url()).await;
    let id = ids(1)[0];
    order(&db, "r1", "body", id).await.unwrap();
    let refused = order(&db, "r1", "another", id).await.unwrap_err();
    let expected = (Code::InvalidArgument, "REQUEST_ID_REUSED".to_owned(), vec!["request_id".to_owned()]);
    assert_eq!(fault(&refused.into()), expected);
    assert_eq!(contents(db.read(), "customer").await[&id].0, 1);
}

async fn fifty_callers_with_one_request_id_have_one_effect(backend: Backend) {
    let temp = TempDb::new(backend).await;
    let replicas = [connect(temp.url()).await, connect(temp.url()).await];
    let id = ids(1)[0];
    let callers = (0..50).map(|caller| {
        let db = replicas[caller % 2].clone();
        tokio::spawn(async move { order(&db, "r1", "body", id).await.unwrap() })
    });
    let mut replies: Vec<Standing> = join_all(callers).await.into_iter().map(|reply| reply.unwrap()).collect();
    replies.dedup();
    assert_eq!(replies, [support::standing(id, 1, 1)]);
    assert_eq!(number(replicas[0].read(), "SELECT COUNT(*) FROM outbox").await, 1);
}

async fn old_replies_are_forgotten(backend: Backend) {
    let temp = TempDb::new(backend).await;
    let clock = Clock::mock(noon());
    let db = support::connect_at(temp.url(), &clock).await;
    let id = ids(1)[0];
    order(&db, "old", "body", id).await.unwrap();
    clock.set(clock::at_micros(clock.now_micros() + idempotency::RETENTION_MICROS));
    order(&db, "young", "body", id).await.unwrap();
    idempotency::forget_old(&db).await.unwrap();
    clock.advance(jiff::SignedDuration::from_micros(1));
    idempotency::forget_old(&db).await.unwrap();
    assert_eq!(number(db.read(), "SELECT COUNT(*) FROM request").await, 1);
    assert_eq!(order(&db, "young", "body", id).await.unwrap().revision, 2);
}
