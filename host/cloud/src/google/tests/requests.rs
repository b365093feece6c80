//! Where requests go, what they look like, and what answers mean.

use std::time::Duration;

use super::*;

async fn url(google: &Google) -> String {
    let prepared = google.prepare(&http(), &get("projects/p/global/routes")).await.expect("prepared");
    format!("{}{}", prepared.url.authority(), prepared.url.path)
}

#[tokio::test]
async fn a_service_is_where_google_has_it_or_where_the_operator_says() {
    let server = Server::start(metadata).await;
    let metadata = || ("GCE_METADATA_HOST", server.address.to_string());
    let usual = google(vec![metadata()], &[]);
    assert_eq!(url(&usual).await, "compute.googleapis.com/compute/v1/projects/p/global/routes");
    let said = google(vec![metadata()], &["google:compute=http://192.0.2.1:8080"]);
    assert_eq!(url(&said).await, "192.0.2.1:8080/compute/v1/projects/p/global/routes");
    // Google's own tools have service and version in there.
    let base = "https://compute.example.com/compute/v1/".to_owned();
    let variable = google(vec![metadata(), ("CLOUDSDK_API_ENDPOINT_OVERRIDES_COMPUTE", base)], &[]);
    assert_eq!(url(&variable).await, "compute.example.com/compute/v1/projects/p/global/routes");
    let wrong = vec![metadata(), ("CLOUDSDK_API_ENDPOINT_OVERRIDES_COMPUTE", "compute".to_owned())];
    let error = google(wrong, &[]).prepare(&http(), &get("x")).await.expect_err("refused").to_string();
    assert!(
        error.starts_with("CLOUDSDK_API_ENDPOINT_OVERRIDES_COMPUTE: \"compute\" is no endpoint"),
        "{error}"
    );
}

#[tokio::test]
async fn a_request_has_method_query_body_and_token() {
    let server = Server::start(metadata).await;
    let mut request = get("projects/p/global/routes");
    request.operation = Operation::Rest {
        method: Method::Post,
        path: "projects/p/global/routes".to_owned(),
        query: vec![("requestId".to_owned(), "a b".to_owned()), ("filter".to_owned(), "x=\"y\"".to_owned())],
        body: Some("{}".to_owned()),
    };
    let prepared = at_metadata(&server).prepare(&http(), &request).await.expect("prepared");
    assert_eq!(prepared.method, hyper::Method::POST);
    let path = "/compute/v1/projects/p/global/routes?requestId=a%20b&filter=x%3D%22y%22";
    assert_eq!((prepared.url.path.as_str(), prepared.url.secure), (path, true));
    assert_eq!(prepared.body, "{}");
    let header = |name| prepared.headers.iter().find(|(its, _)| its == name).map(|(_, value)| value.clone());
    assert_eq!(header(CONTENT_TYPE), Some(HeaderValue::from_static("application/json")));
    assert_eq!(header(AUTHORIZATION), Some(HeaderValue::from_static("Bearer ya29.made-up")));
}

#[tokio::test]
async fn an_action_is_no_call_of_googles() {
    let operation = Operation::Action { name: "X".to_owned(), parameters: Vec::new() };
    let request = Request { operation, ..get("x") };
    let error = google(Vec::new(), &[]).prepare(&http(), &request).await.expect_err("refused");
    assert!(matches!(error, Failure::Invalid(_)), "{error}");
}

#[test]
fn answers_mean_what_google_says_they_mean() {
    let reason = |reason: &str| {
        let errors = serde_json::json!([{ "domain": "usageLimits", "reason": reason, "message": "" }]);
        serde_json::json!({ "error": { "code": 403, "message": "", "errors": errors } }).to_string()
    };
    let seconds = |value: &str| vec![("retry-after".to_owned(), value.to_owned())];
    let google = google(Vec::new(), &[]);
    for (status, headers, body, expected) in [
        (200, vec![], String::new(), ResponseClass::Final),
        (404, vec![], reason("notFound"), ResponseClass::Final),
        (409, vec![], reason("alreadyExists"), ResponseClass::Final),
        (403, vec![], reason("forbidden"), ResponseClass::Final),
        (403, vec![], reason("quotaExceeded"), ResponseClass::Final),
        (403, vec![], "<html>".to_owned(), ResponseClass::Final),
        (403, vec![], reason("rateLimitExceeded"), ResponseClass::Throttled(None)),
        (
            403,
            seconds("7"),
            reason("userRateLimitExceeded"),
            ResponseClass::Throttled(Some(Duration::from_secs(7))),
        ),
        (429, seconds("30"), String::new(), ResponseClass::Throttled(Some(Duration::from_secs(30)))),
        (429, seconds("soon"), String::new(), ResponseClass::Throttled(None)),
        (401, vec![], String::new(), ResponseClass::CredentialsRefused),
        (408, vec![], String::new(), ResponseClass::Failed),
        (500, vec![], String::new(), ResponseClass::Failed),
        (503, vec![], String::new(), ResponseClass::Failed),
    ] {
        let answer = Answer { status, headers, body, attempts: 1 };
        assert_eq!(google.classify(&answer), expected, "{answer:?}");
    }
}
