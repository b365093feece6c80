//! Names of parameters. What addresses, signs and shapes a request is the host's alone, and each name has one value: what a grant says
//! of a parameter would mean nothing where the cloud looks at another one.

use std::collections::BTreeSet;

use flannel_base::text::excerpt;

use super::request::{Failure, Provider};

/// Names that no plugin may use, in lower case and without `-` and `_`.
struct Reserved {
    /// Whole names, up to the first dot.
    names: &'static [&'static str],
    /// What others begin with.
    begin: &'static [&'static str],
}

/// Common parameters of query APIs, and signature versions 2 and 4:
/// <https://docs.aws.amazon.com/AWSEC2/latest/APIReference/CommonParameters.html>.
const AWS: Reserved = Reserved {
    names: &["action", "version", "awsaccesskeyid", "timestamp", "expires", "securitytoken"],
    begin: &["signature", "xamz"],
};

/// Common parameters of RPC APIs, of all signature versions, and those that act for another account:
/// <https://help.aliyun.com/document_detail/315526.html>. `RegionId` is none of them: it has to be there, and is compared.
const ALIBABA: Reserved = Reserved {
    names: &[
        "action",
        "version",
        "format",
        "accesskeyid",
        "timestamp",
        "securitytoken",
        "bearertoken",
        "ownerid",
        "owneraccount",
        "resourceownerid",
        "resourceowneraccount",
    ],
    begin: &["signature", "xacs"],
};

/// Common parameters, of both signature methods: <https://www.tencentcloud.com/document/api/213/33224>. They are headers here, and would be
/// parameters in a query.
const TENCENT: Reserved = Reserved {
    names: &[
        "action",
        "version",
        "region",
        "timestamp",
        "nonce",
        "secretid",
        "token",
        "requestclient",
        "language",
    ],
    begin: &["signature", "xtc"],
};

/// System parameters: <https://cloud.google.com/apis/docs/system-parameters>, and those of uploads. `fields` is none of them: it
/// leaves out parts of an answer, and does nothing else.
const GOOGLE: Reserved = Reserved {
    names: &[
        "alt",
        "key",
        "apikey",
        "accesstoken",
        "oauthtoken",
        "bearertoken",
        "authuser",
        "callback",
        "httpmethod",
        "outputdefaults",
        "pp",
        "prettyprint",
        "quotauser",
        "userip",
        "userproject",
        "uploadid",
        "uploadprotocol",
        "uploadtype",
    ],
    begin: &["$", "xgoog", "xgafv"],
};

/// A name as it is compared: clouds are not all strict about case, and Google takes `a_b` for `aB`.
pub(crate) fn folded(name: &str) -> String {
    let kept = name.chars().filter(|letter| !matches!(letter, '-' | '_'));
    kept.map(|letter| letter.to_ascii_lowercase()).collect()
}

/// Whether a name is the host's to use, whatever its case.
pub fn is_reserved(provider: Provider, name: &str) -> bool {
    let all = match provider {
        Provider::Aws => AWS,
        Provider::Alibaba => ALIBABA,
        Provider::Tencent => TENCENT,
        Provider::Google => GOOGLE,
    };
    let folded = folded(name.split('.').next().unwrap_or_default());
    // In place of headers: `X-HTTP-Method-Override`; and `_method`.
    let is_header = name.starts_with('_') || name.get(..2).is_some_and(|two| two.eq_ignore_ascii_case("x-"));
    is_header || all.names.contains(&&*folded) || all.begin.iter().any(|begin| folded.starts_with(begin))
}

/// Whether a text can be the name of a parameter: words of letters, digits, `-` and `_`, with dots between them. Numbers of lists begin
/// with no zero, so that each member has one name.
pub fn is_parameter(name: &str) -> bool {
    let is_word = |word: &str| {
        let is_number = word.bytes().all(|byte| byte.is_ascii_digit());
        let proper = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_');
        !word.is_empty()
            && word.bytes().all(proper)
            && !(is_number && word.len() > 1 && word.starts_with('0'))
    };
    name.split('.').all(is_word)
}

/// Whether a plugin may send these parameters. The error names the first that it may not.
pub(crate) fn check(provider: Provider, parameters: &[(String, String)]) -> Result<(), Failure> {
    let mut seen = BTreeSet::new();
    for (name, _) in parameters {
        let shown = excerpt(name);
        if is_reserved(provider, name) {
            return Err(Failure::Denied(format!(
                "the parameter {shown:?} is reserved: what names, signs and shapes a request to {provider} is the host's"
            )));
        }
        if !is_parameter(name) {
            return Err(Failure::Invalid(format!(
                "the parameter {shown:?}: names are words of letters, digits, `-` and `_`, with dots between them, and numbers without \
                 zeros in front"
            )));
        }
        if !seen.insert(folded(name)) {
            return Err(Failure::Invalid(format!(
                "the parameter {shown:?} is there twice: each name has one value, and case, `-` and `_` make no other name"
            )));
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn checked(provider: Provider, names: &[&str]) -> Result<(), Failure> {
        let parameters: Vec<_> = names.iter().map(|name| ((*name).to_owned(), String::new())).collect();
        check(provider, &parameters)
    }

    #[test]
    fn what_names_signs_and_shapes_a_request_is_refused_in_any_case() {
        for (provider, names) in [
            (
                Provider::Aws,
                &[
                    "Action",
                    "aCTION",
                    "Action.1",
                    "Version",
                    "X-Amz-Security-Token",
                    "x-amz-date",
                    "X_Amz_Expires",
                    "AWSAccessKeyId",
                    "awsaccesskeyid",
                    "Signature",
                    "SignatureMethod",
                    "Timestamp",
                    "Expires",
                    "SecurityToken",
                    "X-HTTP-Method-Override",
                ][..],
            ),
            (
                Provider::Alibaba,
                &[
                    "Action",
                    "version",
                    "Format",
                    "AccessKeyId",
                    "SignatureNonce",
                    "SIGNATURETYPE",
                    "Timestamp",
                    "SecurityToken",
                    "BearerToken",
                    "x-acs-action",
                    "X-Acs-Security-Token",
                    "ResourceOwnerAccount",
                ],
            ),
            (
                Provider::Tencent,
                &[
                    "Action",
                    "version",
                    "Region",
                    "X-TC-Action",
                    "x-tc-token",
                    "SecretId",
                    "Token",
                    "SignatureMethod",
                ],
            ),
            (
                Provider::Google,
                &[
                    "$httpMethod",
                    "$alt",
                    "$.xgafv",
                    "alt",
                    "ALT",
                    "key",
                    "access_token",
                    "accessToken",
                    "oauth_token",
                    "callback",
                    "prettyPrint",
                    "pretty_print",
                    "quotaUser",
                    "userIp",
                    "uploadType",
                    "upload_protocol",
                    "X-HTTP-Method-Override",
                    "x-goog-user-project",
                    "_method",
                ],
            ),
        ] {
            for name in names {
                let refused = checked(provider, &[name]);
                assert!(
                    matches!(&refused, Err(Failure::Denied(text)) if text.contains("is reserved")),
                    "{provider} {name}: {refused:?}"
                );
            }
        }
    }

    #[test]
    fn what_operations_have_of_their_own_goes() {
        for (provider, names) in [
            (
                Provider::Aws,
                &["Filter.1.Name", "Filter.1.Value.1", "Filter.1.Value.2", "SourceDestCheck.Value"][..],
            ),
            (Provider::Aws, &["DryRun", "MaxResults", "ActionNames.member.1", "NextToken"]),
            (Provider::Alibaba, &["RegionId", "RouteTableId", "ClientToken", "MaxResult"]),
            (Provider::Tencent, &["Filters.0.Name", "Filters.0.Values.0", "Routes.0.GatewayId", "Limit"]),
            (Provider::Google, &["filter", "pageToken", "requestId", "fields", "maxResults"]),
        ] {
            assert_eq!(checked(provider, names), Ok(()), "{provider} {names:?}");
        }
    }

    #[test]
    fn each_name_has_one_value_and_one_way_to_write_it() {
        for names in [
            &["RouteTableId", "RouteTableId"][..],
            &["RouteTableId", "routetableid"],
            &["RouteTableId", "Route_Table-Id"],
            &["Filter.1.Name", "filter.1.name"],
            &["Filter.01.Name"],
            &["%41ction"],
            &["RouteTableId=rtb-2&Action"],
            &["Route TableId"],
            &["RouteTableId;x"],
            &["a..b"],
            &[".a"],
            &["a."],
            &[""],
            &["RouteTableI\u{131}"],
        ] {
            let refused = checked(Provider::Aws, names);
            assert!(matches!(refused, Err(Failure::Invalid(_))), "{names:?}: {refused:?}");
        }
    }
}
