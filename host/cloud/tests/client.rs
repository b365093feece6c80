//! A cloud that is not there, asked by the real client: what is sent again, what is not, and what never comes out.

use std::sync::Arc;
use std::time::{Duration, Instant};

use flannel_cloud::{Failure, Operation, Provider, Request};
use flannel_fake_cloud::{SECRET, Server, Turn, client};

fn request(idempotent: bool) -> Request {
    Request {
        provider: Provider::Aws,
        service: "ec2".to_owned(),
        version: "2016-11-15".to_owned(),
        region: None,
        operation: Operation::Action { name: "CreateRoute".to_owned(), parameters: Vec::new() },
        idempotent,
    }
}

fn soon() -> Instant {
    Instant::now() + Duration::from_secs(20)
}

async fn outcome(turns: &[Turn], idempotent: bool) -> (Result<(u16, u32), Failure>, u32) {
    let server = Server::start(turns).await;
    let (client, _) = client(&server);
    let answer = client.send(&request(idempotent), soon()).await;
    (answer.map(|answer| (answer.status, answer.attempts)), server.asked())
}

#[tokio::test]
async fn what_says_what_is_the_hosts_to_say_is_neither_signed_nor_sent() {
    let server = Server::start(&[Turn::Answer(200, "")]).await;
    let (client, _) = client(&server);
    for names in [&["Action"][..], &["RouteTableId", "RouteTableId"]] {
        let parameters = names.iter().map(|name| ((*name).to_owned(), "x".to_owned())).collect();
        let operation = Operation::Action { name: "DescribeRouteTables".to_owned(), parameters };
        let answer = client.send(&Request { operation, ..request(true) }, soon()).await;
        assert!(matches!(answer, Err(Failure::Denied(_) | Failure::Invalid(_))), "{names:?}: {answer:?}");
    }
    let version = client.send(&Request { version: "..".to_owned(), ..request(true) }, soon()).await;
    assert!(matches!(version, Err(Failure::Invalid(_))), "{version:?}");
    assert_eq!(server.asked(), 0);
}

#[tokio::test]
async fn what_was_turned_away_for_being_too_many_is_sent_again_whatever_it_is() {
    let turns = [Turn::Answer(429, ""), Turn::Answer(429, ""), Turn::Answer(200, "")];
    assert_eq!(outcome(&turns, false).await, (Ok((200, 3)), 3));
}

#[tokio::test]
async fn what_may_have_been_carried_out_is_sent_again_only_if_that_does_no_harm() {
    for (turn, status) in [(Turn::Answer(500, ""), Some(500)), (Turn::Half, None)] {
        let turns = [turn.clone(), Turn::Answer(200, "")];
        assert_eq!(outcome(&turns, true).await, (Ok((200, 2)), 2), "{turn:?}");
        let (once, asked) = outcome(&turns, false).await;
        assert_eq!((once.as_ref().ok().map(|(status, _)| *status), asked), (status, 1), "{turn:?}");
        assert!(status.is_some() || matches!(once, Err(Failure::Unreachable(_))), "{once:?}");
    }
}

#[tokio::test]
async fn bad_news_comes_back_as_it_is() {
    let (answer, asked) = outcome(&[Turn::Answer(403, "no")], true).await;
    assert_eq!((answer, asked), (Ok((403, 1)), 1));
}

#[tokio::test]
async fn credentials_that_are_refused_are_replaced_once() {
    let server = Server::start(&[Turn::Answer(401, "")]).await;
    let (client, vendor) = client(&server);
    let answer = client.send(&request(false), soon()).await.expect("an answer");
    assert_eq!((answer.status, answer.attempts), (401, 2));
    assert_eq!(*vendor.forgotten.lock().expect("not poisoned"), 1);
}

#[tokio::test]
async fn nobody_waits_longer_than_the_deadline_or_than_the_client_is_there() {
    let server = Server::start(&[Turn::Silence]).await;
    let (client, _) = client(&server);
    let late = client.send(&request(true), Instant::now() + Duration::from_millis(100)).await;
    assert!(
        matches!(&late, Err(Failure::Unreachable(text)) if text.contains("in the time that was left")),
        "{late:?}"
    );
    let client = Arc::new(client);
    let asked = request(true);
    let waiting = client.send(&asked, Instant::now() + Duration::from_hours(1));
    let (ended, ()) = tokio::join!(waiting, async {
        tokio::time::sleep(Duration::from_millis(50)).await;
        client.close();
    });
    assert_eq!(ended, Err(Failure::Unreachable("flanneld is about to end".to_owned())));
}

#[tokio::test]
async fn what_repeats_the_question_comes_back_without_the_secret() {
    let server = Server::start(&[Turn::Echo]).await;
    let (client, _) = client(&server);
    let answer = client.send(&request(true), soon()).await.expect("an answer");
    assert!(answer.body.contains("authorization: (hidden)"), "{}", answer.body);
    assert!(!format!("{answer:?}").contains(SECRET), "{answer:?}");
}

#[tokio::test]
async fn more_requests_than_a_node_may_make_wait_for_their_turn_or_are_refused() {
    let server = Server::start(&[Turn::Answer(200, "")]).await;
    let begun = Instant::now();
    let (client, _) = client(&server);
    let client = Arc::new(client);
    let later = begun + Duration::from_mins(10);
    // Far more than there can be meanwhile, on however slow a machine.
    let mut asking = tokio::task::JoinSet::new();
    for _ in 0..1000 {
        let client = Arc::clone(&client);
        asking.spawn(async move { client.send(&request(true), later).await });
    }
    for _ in 0..110 {
        asking.join_next().await.expect("one").expect("no panic").expect("an answer");
    }
    // Who has no time to wait is not kept waiting.
    let error = client.send(&request(true), Instant::now()).await.expect_err("refused");
    assert!(
        matches!(&error, Failure::Unreachable(reason) if reason.contains("too many requests")),
        "{error}"
    );
    let asked = server.asked();
    let most = 100 + begun.elapsed().as_millis() / 50 + 1;
    assert!(u128::from(asked) <= most, "{asked} of at most {most}");
}
