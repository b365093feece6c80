//! The agent of Azure Arc, which wants to see that its client may read a file of its own.

use flannel_fake_cloud::{Server, Turn};

use super::*;
use crate::exchange::TIMES;
use crate::http::CleartextPolicy;

const KEY: &str = "made-up-key-of-the-agent";

fn challenge(file: &Path) -> Turn {
    Turn::Raw(format!(
        "HTTP/1.1 401 -\r\nWWW-Authenticate: Basic realm={}\r\nContent-Length: 0\r\nConnection: close\r\n\r\n",
        file.display()
    ))
}

async fn asked(server: &Server, keys: &Path) -> Result<String, Failure> {
    let url = Url::parse(&format!("{}{PATH}", server.url())).expect("a URL");
    let http = Http::new(None, CleartextPolicy::LinkLocal, TIMES);
    let source = Source::Arc(url, keys.to_owned());
    let (token, secrets) = source.token(&http, "https://management.azure.com/", None).await?;
    assert!(secrets.iter().any(|secret| secret.reveal() == KEY));
    Ok(token.text.reveal().clone())
}

#[tokio::test]
async fn the_agent_of_arc_is_shown_the_key_of_the_file_that_it_names() {
    let place = tempfile::tempdir().expect("a directory");
    let file = place.path().join("4711.key");
    std::fs::write(&file, KEY).expect("written");
    let token = "{\"access_token\":\"a-token\",\"expires_in\":\"3600\",\"token_type\":\"Bearer\"}";
    let server = Server::start(&[challenge(&file), Turn::Answer(200, token)]).await;
    assert_eq!(asked(&server, place.path()).await.expect("a token"), "a-token");
    let [first, second] = server.questions().try_into().expect("two questions");
    assert!(
        first.starts_with("GET /metadata/identity/oauth2/token?api-version=2020-06-01&resource="),
        "{first}"
    );
    assert!(first.contains("metadata: true\r\n") && !first.contains(KEY), "{first}");
    assert!(second.contains(&format!("authorization: Basic {KEY}\r\n")), "{second}");
}

#[tokio::test]
async fn no_other_file_than_one_of_the_agents_keys_is_sent() {
    let place = tempfile::tempdir().expect("a directory");
    let write = |name: &str, text: &str| {
        let file = place.path().join(name);
        std::fs::write(&file, text).expect("written");
        file
    };
    std::fs::create_dir(place.path().join("keys")).expect("a directory");
    let keys = place.path().join("keys");
    for file in [
        write("elsewhere.key", KEY),
        write("keys/one.txt", KEY),
        keys.join("../elsewhere.key"),
        keys.join("missing.key"),
        write("keys/empty.key", ""),
        write("keys/large.key", &"x".repeat(4097)),
    ] {
        let server = Server::start(&[challenge(&file)]).await;
        let error = asked(&server, &keys).await.expect_err("refused").to_string();
        assert!(!error.contains(KEY) && error.contains(&*file.display().to_string()), "{error}");
        assert_eq!(server.asked(), 1, "{error}");
    }
    let server = Server::start(&[Turn::Answer(200, "{}")]).await;
    let error = asked(&server, &keys).await.expect_err("refused").to_string();
    assert!(error.contains("status 200, and no file with a key"), "{error}");
}
