//! Access tokens for what Azure gives a machine or a pod.

use flannel_cloud::Failure;
use flannel_fake_cloud::{Server, Turn};

use super::{Place, SECRET, get, line, raw, soon};

const IMDS: &str = "AZURE_POD_IDENTITY_AUTHORITY_HOST";

fn identity(more: &str) -> String {
    format!("credentials = {{ azure-identity = {{ resource = \"https://management.azure.com/\"{more} }} }}")
}

/// As the metadata service writes it: with numbers as text.
fn token(text: &str) -> Turn {
    let body = format!(
        "{{\"access_token\":\"{text}\",\"client_id\":\"c\",\"expires_in\":\"86399\",\"expires_on\":\"1506484173\",\"token_type\":\"Bearer\"}}"
    );
    raw(200, "", &body)
}

#[tokio::test]
async fn the_metadata_service_is_asked_once_and_once_more_when_a_token_is_refused() {
    let place = Place::new();
    let imds = Server::start(&[token("first-canary"), token("second-canary")]).await;
    let server = Server::start(&[Turn::Answer(200, ""), Turn::Answer(401, ""), Turn::Echo]).await;
    let client = place.client_with(&server.url(), &identity(""), &[(IMDS, &imds.url())]);
    client.send(&get(), soon()).await.expect("an answer");
    let question = imds.questions().remove(0);
    let begin = "GET /metadata/identity/oauth2/token?api-version=2018-02-01&resource=https%3A%2F%2Fmanagement.azure.com%2F HTTP/1.1\r\n";
    assert!(question.starts_with(begin), "{question}");
    assert_eq!(line(&question, "metadata"), Some("metadata: true"));
    let answer = client.send(&get(), soon()).await.expect("an answer");
    assert_eq!((answer.status, answer.attempts, imds.asked()), (200, 2, 2));
    let sent = server.questions();
    assert_eq!(line(&sent[0], "authorization"), Some("authorization: Bearer first-canary"));
    assert_eq!(line(&sent[2], "authorization"), Some("authorization: Bearer second-canary"));
    assert!(answer.body.contains("(hidden)") && !format!("{answer:?}").contains("canary"), "{answer:?}");
}

#[tokio::test]
async fn one_of_several_identities_is_named_as_each_service_wants_it() {
    let place = Place::new();
    for (written, at_imds, at_app_service) in [
        ("client-id = \"c-1\"", "&client_id=c-1", "&client_id=c-1"),
        ("object-id = \"o-1\"", "&object_id=o-1", "&principal_id=o-1"),
        (
            "mi-res-id = \"/subscriptions/s\"",
            "&msi_res_id=%2Fsubscriptions%2Fs",
            "&mi_res_id=%2Fsubscriptions%2Fs",
        ),
    ] {
        let (asked, server) =
            (Server::start(&[token("a-token")]).await, Server::start(&[Turn::Answer(200, "")]).await);
        let written = identity(&format!(", {written}"));
        let client = place.client_with(&server.url(), &written, &[(IMDS, &asked.url())]);
        client.send(&get(), soon()).await.expect("an answer");
        let endpoint = format!("{}/msi/token", asked.url());
        let variables = [("IDENTITY_ENDPOINT", endpoint.as_str()), ("IDENTITY_HEADER", SECRET)];
        let client = place.client_with(&server.url(), &written, &variables);
        client.send(&get(), soon()).await.expect("an answer");
        let [first, second] = asked.questions().try_into().expect("two questions");
        assert!(
            first.lines().next().is_some_and(|line| line.ends_with(&format!("{at_imds} HTTP/1.1"))),
            "{first}"
        );
        assert!(second.starts_with("GET /msi/token?api-version=2019-08-01&resource="), "{second}");
        assert!(
            second.lines().next().is_some_and(|line| line.ends_with(&format!("{at_app_service} HTTP/1.1"))),
            "{second}"
        );
        assert_eq!(line(&second, "x-identity-header"), Some(&*format!("x-identity-header: {SECRET}")));
        assert_eq!(line(&second, "metadata"), None);
    }
}

#[tokio::test]
async fn a_workload_gives_the_clusters_token_for_one_of_azure() {
    let place = Place::new();
    let file = place.write("federated", "header.claims-canary.signature\n").display().to_string();
    let authority = Server::start(&[token("first-canary"), token("second-canary")]).await;
    let server = Server::start(&[Turn::Answer(200, ""), Turn::Answer(401, ""), Turn::Answer(200, "")]).await;
    let url = authority.url() + "/";
    let variables = [
        ("AZURE_FEDERATED_TOKEN_FILE", file.as_str()),
        ("AZURE_TENANT_ID", "tenant-1"),
        ("AZURE_CLIENT_ID", "client-1"),
        ("AZURE_AUTHORITY_HOST", &url),
    ];
    let client = place.client_with(&server.url(), &identity(""), &variables);
    client.send(&get(), soon()).await.expect("an answer");
    let question = authority.questions().remove(0);
    assert!(question.starts_with("POST /tenant-1/oauth2/v2.0/token HTTP/1.1\r\n"), "{question}");
    let form = "grant_type=client_credentials&client_id=client-1\
        &client_assertion_type=urn%3Aietf%3Aparams%3Aoauth%3Aclient-assertion-type%3Ajwt-bearer\
        &client_assertion=header.claims-canary.signature&scope=https%3A%2F%2Fmanagement.azure.com%2F%2F.default";
    assert!(question.ends_with(form), "{question}");
    // It is replaced all the time.
    place.write("federated", "header.others.signature");
    client.send(&get(), soon()).await.expect("an answer");
    assert!(authority.questions()[1].contains("&client_assertion=header.others.signature&"));
    // The operator's word comes before the webhook's.
    let client = place.client_with(&server.url(), &identity(", client-id = \"client-2\""), &variables);
    client.send(&get(), soon()).await.expect("an answer");
    assert!(authority.questions()[2].contains("&client_id=client-2&"));
}

#[tokio::test]
async fn what_is_missing_or_refused_is_said_without_secrets() {
    let place = Place::new();
    let file = place.write("federated", "header.claims-canary.signature").display().to_string();
    let refuses = |status, description: &str| {
        let body = format!("{{\"error\":\"invalid_request\",\"error_description\":\"{description}\"}}");
        raw(status, "", &body)
    };
    let asked = Server::start(&[refuses(400, "Identity not found")]).await;
    let repeats =
        Server::start(&[refuses(401, &format!("not header.claims-canary.signature, {SECRET}"))]).await;
    let (imds, authority) = (asked.url(), repeats.url());
    let federated = ("AZURE_FEDERATED_TOKEN_FILE", file.as_str());
    for (variables, part) in [
        (
            vec![(IMDS, imds.as_str())],
            "the managed identity of this machine: http://127.0.0.1:PORT/metadata/identity/oauth2/token answers: invalid_request: Identity not found",
        ),
        (vec![federated], "AZURE_FEDERATED_TOKEN_FILE is set, and AZURE_TENANT_ID is not"),
        (
            vec![federated, ("AZURE_TENANT_ID", "t")],
            "AZURE_FEDERATED_TOKEN_FILE is set, and AZURE_CLIENT_ID is not",
        ),
        (vec![federated, ("AZURE_TENANT_ID", "t/../u")], "AZURE_TENANT_ID: \"t/../u\" is no tenant"),
        (
            vec![
                federated,
                ("AZURE_TENANT_ID", "t"),
                ("AZURE_CLIENT_ID", "c"),
                ("AZURE_AUTHORITY_HOST", "http://login.example.com"),
            ],
            "AZURE_AUTHORITY_HOST = \"http://login.example.com\": without TLS everybody on the way could read the credentials; right would be https://",
        ),
        (
            vec![
                ("AZURE_FEDERATED_TOKEN_FILE", "/nowhere"),
                ("AZURE_TENANT_ID", "t"),
                ("AZURE_CLIENT_ID", "c"),
            ],
            "AZURE_FEDERATED_TOKEN_FILE: /nowhere: cannot be read: ",
        ),
        (
            vec![
                federated,
                ("AZURE_TENANT_ID", "t"),
                ("AZURE_CLIENT_ID", "c"),
                ("AZURE_AUTHORITY_HOST", &authority),
            ],
            "the workload identity c: http://127.0.0.1:PORT/t/oauth2/v2.0/token answers: invalid_request: not (hidden)",
        ),
        (
            vec![("IDENTITY_ENDPOINT", imds.as_str())],
            "IDENTITY_ENDPOINT is set, and neither IDENTITY_HEADER nor IMDS_ENDPOINT",
        ),
        (
            vec![("IDENTITY_ENDPOINT", authority.as_str()), ("IDENTITY_HEADER", SECRET)],
            "answers: invalid_request: not ",
        ),
        (
            vec![("IDENTITY_ENDPOINT", "http://10.0.0.1"), ("IDENTITY_HEADER", SECRET)],
            "IDENTITY_ENDPOINT = \"http://10.0.0.1\": without TLS",
        ),
    ] {
        let server = Server::start(&[Turn::Answer(200, "")]).await;
        let client = place.client_with(&server.url(), &identity(""), &variables);
        let error = client.send(&get(), soon()).await.expect_err("refused");
        let text = [&imds, &authority].iter().fold(error.to_string(), |text, url| {
            let (_, port) = url.rsplit_once(':').expect("a port");
            text.replace(port, "PORT")
        });
        assert!(matches!(error, Failure::Credentials(_)) && text.contains(part), "{text}");
        let hidden = if variables[0] == federated { "claims-canary" } else { SECRET };
        assert!(!text.contains(hidden) && server.asked() == 0, "{text}");
    }
}

#[tokio::test]
async fn a_metadata_service_that_is_being_updated_is_asked_again() {
    let place = Place::new();
    let away = [Turn::Answer(404, ""), Turn::Answer(410, "")];
    let imds = Server::start(&[&away[..], &[token("a-token")]].concat()).await;
    let server = Server::start(&[Turn::Answer(200, "")]).await;
    let client = place.client_with(&server.url(), &identity(""), &[(IMDS, &imds.url())]);
    client.send(&get(), soon()).await.expect("an answer");
    assert_eq!(imds.asked(), 3);
}
