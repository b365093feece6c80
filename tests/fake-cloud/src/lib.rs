//! A cloud that is not there, for tests of those that ask clouds.

use std::collections::BTreeMap;
use std::collections::VecDeque;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use async_trait::async_trait;
use flannel_cloud::http::{Http, Url};
use flannel_cloud::{
    Answer, Client, CloudOptions, Failure, Instance, Prepared, Provider, Request, ResponseClass, Secret,
    Variables, Vendor,
};
use hyper::body::Bytes;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpListener;

/// What must not be seen.
pub const SECRET: &str = "made-up/secret+of=the&test";

/// What the server does next.
#[derive(Clone, Debug)]
pub enum Turn {
    /// Answers.
    Answer(u16, &'static str),
    /// Answers with just that.
    Raw(String),
    /// Repeats all that it was sent, as the body.
    Echo,
    /// Says how much will come, and breaks off before that.
    Half,
    /// Says nothing.
    Silence,
}

/// A server on loopback that takes its turns one after the other, the last one again and again, and counts.
pub struct Server {
    url: Url,
    questions: Arc<Mutex<Vec<String>>>,
}

impl Server {
    /// Listens from now on.
    ///
    /// # Panics
    /// If there is no port.
    pub async fn start(turns: &[Turn]) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("listens");
        let address = listener.local_addr().expect("an address");
        let questions = Arc::new(Mutex::new(Vec::new()));
        let heard = Arc::clone(&questions);
        let mut turns: VecDeque<Turn> = turns.iter().cloned().collect();
        tokio::spawn(async move {
            while let Ok((mut stream, _)) = listener.accept().await {
                let turn = if turns.len() > 1 { turns.pop_front() } else { turns.front().cloned() };
                let mut question = vec![0; 64 << 10];
                let length = stream.read(&mut question).await.unwrap_or(0);
                let said = String::from_utf8_lossy(&question[..length]).into_owned();
                heard.lock().unwrap_or_else(PoisonError::into_inner).push(said.clone());
                let (status, body, missing) = match turn.expect("a turn") {
                    Turn::Answer(status, body) => (status, body.to_owned(), 0),
                    Turn::Raw(text) => {
                        let _ = stream.write_all(text.as_bytes()).await;
                        continue;
                    }
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
        Self { url, questions }
    }

    /// How often it was asked.
    ///
    /// # Panics
    /// If it was more often than can be counted.
    pub fn asked(&self) -> u32 {
        self.questions().len().try_into().expect("a number")
    }

    /// What it was asked, as it came.
    pub fn questions(&self) -> Vec<String> {
        self.questions.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Where it is: `http://127.0.0.1:PORT`.
    pub fn url(&self) -> String {
        format!("http://{}", self.url.authority())
    }
}

/// A cloud whose signature is its secret.
pub struct Naive {
    url: Url,
    /// How often its credentials were to be forgotten.
    pub forgotten: Mutex<u32>,
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

    fn classify(&self, answer: &Answer) -> ResponseClass {
        match answer.status {
            429 => ResponseClass::Throttled(None),
            401 => ResponseClass::CredentialsRefused,
            500.. => ResponseClass::Failed,
            _ => ResponseClass::Final,
        }
    }

    fn forget_credentials(&self) {
        *self.forgotten.lock().unwrap_or_else(PoisonError::into_inner) += 1;
    }

    async fn instance(&self, _: &Http) -> Result<Instance, Failure> {
        Ok(Instance { id: "i-1".to_owned(), ..Instance::default() })
    }
}

/// A client of that cloud.
pub fn client(server: &Server) -> (Client, Arc<Naive>) {
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
