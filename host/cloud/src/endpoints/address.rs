//! Where credentials may be sent.

use std::net::IpAddr;

use flannel_base::text::without_credentials;

use crate::http::{Url, is_link_local, is_loopback};

/// A URL of the operator's file that credentials may be sent to. The path has no slash at its end.
pub(super) fn address(key: &str, text: &str, insecure: bool) -> Result<Url, String> {
    read(key, text, insecure, "https://, or insecure = true where the network is trusted")
}

/// The same, of a variable.
pub(super) fn address_of_variable(name: &str, text: &str) -> Result<Url, String> {
    read(name, text, false, "https://")
}

fn read(key: &str, text: &str, insecure: bool, right: &str) -> Result<Url, String> {
    let shown = without_credentials(text);
    let form = || format!("{key} = {shown:?}: right would be https://HOST[:PORT][/PATH]");
    let url =
        Url::parse(text).filter(|url| !url.path.contains('?') && !text.contains('#')).ok_or_else(form)?;
    let is_near = is_loopback(&url.host) || url.host.parse::<IpAddr>().is_ok_and(is_link_local);
    if !url.secure && !is_near && !insecure {
        return Err(format!(
            "{key} = {shown:?}: without TLS everybody on the way could read the credentials; right would be {right}"
        ));
    }
    let path = url.path.trim_end_matches('/').to_owned();
    Ok(Url { path, ..url })
}
