//! A cloud that is not there, asked by the real client: what is sent again, what is not, and what never comes out.

use std::collections::BTreeMap;
use std::collections::VecDeque;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use async_trait::async_trait;
use hyper::body::Bytes;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpListener;

use super::*;
use crate::http::{Http, Url};

const SECRET: &str = "made-up/secret+of=the&test";

/// What the server does next.
#[derive(Clone, Debug)]
pub(crate) enum Turn {
    /// Answers.
    Answer(u16, &'static str),
    /// Repeats all that it was sent, as the body.
    Echo,
    /// Says how much will come, and breaks off before that.
    Half,
    /// Says nothing.
    Silence,
}

/// A server on loopback that takes its turns one after the other, the last one again and again, and counts.
pub(crate) struct Server {
    url: Url,
    asked: Arc<Mutex<u32>>,
}

impl Server {
    pub(crate) async fn start(turns: &[Turn]) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("listens");
        let address = listener.local_addr().expect("an address");
        let asked = Arc::new(Mutex::new(0));
        let counter = Arc::clone(&asked);
        let mut turns: VecDeque<Turn> = turns.iter().cloned().collect();
        tokio::spawn(async move {
            while let Ok((mut stream, _)) = listener.accept().await {
                *counter.lock().unwrap_or_else(PoisonError::into_inner) += 1;
                let turn = if turns.len() > 1 { turns.pop_front() } else { turns.front().cloned() };
                let mut question = vec![0; 64 << 10];
                let length = stream.read(&mut question).await.unwrap_or(0);
                let said = String::from_utf8_lossy(&question[..length]).into_owned();
                let (status, body, missing) = match turn.expect("a turn") {
                    Turn::Answer(status, body) => (status, body.to_owned(), 0),
                    Turn::Echo => (200, said, 0),
                    Turn::Half => (200, "half".to_owned(), 4),
                    Turn::Silence => {
                        tokio::time::sleep(Duration::from_mins(1)).await;
                        continue;
                    }
                };
                let head = format!(
                    "HTTP/1.1 {status} -\r\nContent-Length: {}\r\nX-Echo: {SECRET}\r\nConnection: close\r\n\r\n",
                    body.len() + missing
                );
                let _ = stream.write_all((head + &body).as_bytes()).await;
            }
        });
        let url = Url::parse(&format!("http://{address}/")).expect("a URL");
        Self { url, asked }
    }

    fn asked(&self) -> u32 {
        *self.asked.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// A cloud whose signature is its secret.
pub(crate) struct Naive {
    url: Url,
    forgotten: Mutex<u32>,
}

#[async_trait]
impl Vendor for Naive {
    async fn prepare(&self, _: &Http, _: &Request) -> Result<Prepared, Failure> {
        Ok(Prepared {
            method: hyper::Method::POST,
            url: self.url.clone(),
            headers: vec![(hyper::header::AUTHORIZATION, hyper::header::HeaderValue::from_static(SECRET))],
            body: Bytes::from_static(b"a=b"),
            secrets: vec![Secret::new(SECRET.to_owned())],
        })
    }

    fn judge(&self, answer: &Answer) -> Verdict {
        match answer.status {
            429 => Verdict::Throttled(None),
            401 => Verdict::CredentialsRefused,
            500.. => Verdict::Failed,
            _ => Verdict::Final,
        }
    }

    fn forget_credentials(&self) {
        *self.forgotten.lock().unwrap_or_else(PoisonError::into_inner) += 1;
    }

    async fn instance(&self, _: &Http) -> Result<Instance, Failure> {
        Ok(Instance { id: "i-1".to_owned(), ..Instance::default() })
    }
}

pub(crate) fn client(server: &Server) -> (Client, Arc<Naive>) {
    let vendor = Arc::new(Naive { url: server.url.clone(), forgotten: Mutex::default() });
    let options = CloudOptions {
        variables: Variables::of([]),
        endpoints: BTreeMap::new(),
        authorities: None,
        access_key: None,
    };
    let vendors: BTreeMap<Provider, Arc<dyn Vendor>> =
        [(Provider::Aws, Arc::clone(&vendor) as Arc<dyn Vendor>)].into();
    (Client::with(options, vendors), vendor)
}

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

/// Whom a policy asks, in these tests.
pub(crate) struct Desk(pub(crate) Client, pub(crate) tokio::runtime::Runtime);

impl crate::plugin::Clouds for Desk {
    fn send(&self, request: &Request, deadline: Instant) -> Result<Answer, Failure> {
        self.1.block_on(self.0.send(request, deadline))
    }

    fn instance(&self, provider: Provider, deadline: Instant) -> Result<Instance, Failure> {
        self.1.block_on(self.0.instance(provider, deadline))
    }
}

/// The secret of [`Naive`], for those who look for it.
pub(crate) fn canary() -> &'static str {
    SECRET
}
