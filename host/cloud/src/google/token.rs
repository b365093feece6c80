//! What access tokens of Google's are for.

/// What a token is to be for: no more than the service needs. Which calls are allowed is up to IAM.
pub(super) fn scope(service: &str) -> &'static str {
    match service {
        "compute" => "https://www.googleapis.com/auth/compute",
        _ => "https://www.googleapis.com/auth/cloud-platform",
    }
}
