//! What is wrong with credentials that have more to them than a file.

use super::parse;

fn in_endpoint(line: &str) -> String {
    format!("\n[endpoint.a]\nurl = \"https://a\"\nallow = [\"GET /\"]\n{line}\n")
}

fn are_said(table: &[(&str, &str)]) {
    for (text, said) in table {
        let error = parse(text).expect_err("refused");
        assert!(error.contains(said), "{text}: {error}");
        assert!(error.lines().count() == 1 && !error.contains("canary"), "{error}");
    }
}

#[test]
fn what_is_wrong_with_a_signature_or_an_identity_is_said_with_its_line_and_with_what_would_be_right() {
    are_said(&[
        (
            &in_endpoint("credentials = { sigv4 = {} }"),
            "line 5: endpoint.a: credentials: sigv4: service is missing: a does not say which it is; right would be service = ",
        ),
        (
            &in_endpoint("credentials = { sigv4 = { service = \"S3\" } }"),
            "service = \"S3\": right would be one such as \"execute-api\"",
        ),
        (
            &in_endpoint("credentials = { sigv4 = { service = \"s3\", region = \"eu/1\" } }"),
            "region = \"eu/1\": right would be one such as \"eu-central-1\"",
        ),
        (
            &in_endpoint("credentials = { sigv4 = { service = \"s3\", profile = \"p\" } }"),
            "profile = \"p\" without credentials-file; right would be",
        ),
        (
            &in_endpoint("credentials = { sigv4 = { secret = \"canary\" } }"),
            "unknown field `secret`, expected one of `service`,",
        ),
        (&in_endpoint("credentials = { azure-identity = {} }"), "line 5: missing field `resource`"),
        (
            &in_endpoint("credentials = { azure-identity = { resource = \"a b\" } }"),
            "azure-identity: resource = \"a b\": right would be visible characters",
        ),
        (
            &in_endpoint(
                "credentials = { azure-identity = { resource = \"r\", client-id = \"c\", object-id = \"o\" } }",
            ),
            "azure-identity: there are several identities; right would be one of client-id, object-id or mi-res-id",
        ),
    ]);
}

#[test]
fn what_is_wrong_with_a_keystone_is_said_with_what_would_be_right() {
    let with = |more: &str| {
        in_endpoint(&format!("credentials = {{ keystone = {{ auth-url = \"https://k\", {more} }} }}"))
    };
    are_said(&[
        (
            &in_endpoint(
                "credentials = { keystone = { auth-url = \"http://10.0.0.1:5000\", password-file = \"p\" } }",
            ),
            "keystone: auth-url = \"http://10.0.0.1:5000\": without TLS",
        ),
        (
            &in_endpoint("credentials = { keystone = { password = \"canary\" } }"),
            "unknown field `password`, expected one of `auth-url`,",
        ),
        (&with(""), "keystone: the secret is missing; right would be password-file or"),
        (&with(r#"password-file = "p""#), "whose password is it? right would be user-id, or username with"),
        (
            &with(r#"password-file = "p", username = "u""#),
            "the user \"u\" is in a domain; right would be user-domain-name beside it, such as \"Default\", or user-id",
        ),
        (
            &with(r#"password-file = "p", user-id = "u", username = "u""#),
            "user-id and username are both there",
        ),
        (
            &with(r#"password-file = "p", user-id = "u", user-domain-id = "d""#),
            "user-id needs no domain beside it",
        ),
        (&with(r#"password-file = "p", user-id = """#), "user-id is empty"),
        (&with(r#"password-file = "p", user-domain-id = "d""#), "the user's domain is there, and no user"),
        (
            &with(r#"password-file = "p", user-id = "u", project-name = "n""#),
            "the project \"n\" is in a domain",
        ),
        (
            &with(r#"password-file = "p", user-id = "u", project-id = "n", domain-id = "d""#),
            "for a project or for a domain (domain-id, domain-name), and not for both",
        ),
        (
            &with(r#"password-file = "p", user-id = "u", application-credential-id = "a""#),
            "an application credential has no password",
        ),
        (
            &with(r#"password-file = "p", application-credential-secret-file = "s""#),
            "there are two secrets; right would be",
        ),
        (
            &with(r#"application-credential-secret-file = "s""#),
            "right would be application-credential-id beside its secret",
        ),
        (
            &with(
                r#"application-credential-secret-file = "s", application-credential-id = "a", project-id = "p""#,
            ),
            "an application credential is for its own project",
        ),
        (
            &with(r#"application-credential-secret-file = "s", application-credential-name = "a""#),
            "an application credential's name is its user's; right would be user-id,",
        ),
        (
            &with(
                r#"application-credential-secret-file = "s", application-credential-id = "a", user-id = "u""#,
            ),
            "an application-credential-id needs no user beside it",
        ),
    ]);
}
