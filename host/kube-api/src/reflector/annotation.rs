//! CIDRs as an annotation repeats them.

use std::net::IpAddr;

/// Reads CIDRs that are separated by commas. `None` unless all of it makes sense.
pub(super) fn cidrs(text: &str) -> Option<Vec<String>> {
    let parts = text.split(',').map(str::trim);
    parts.map(|part| is_cidr(part).then(|| part.to_owned())).collect()
}

fn is_cidr(text: &str) -> bool {
    let parsed = text
        .split_once('/')
        .and_then(|(address, length)| Some((address.parse::<IpAddr>().ok()?, length.parse::<u8>().ok()?)));
    parsed.is_some_and(|(address, length)| length <= if address.is_ipv4() { 32 } else { 128 })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn cidrs_are_read_if_all_of_them_make_sense() {
        assert_eq!(cidrs("10.0.1.0/24"), Some(vec!["10.0.1.0/24".to_owned()]));
        assert_eq!(cidrs("10.0.1.0/24, fd00::/64").map(|cidrs| cidrs.len()), Some(2));
        for wrong in ["", ",", "10.0.1.0/24,", "10.0.1.0", "10.0.1.0/33", "fd00::/129", "x/1"] {
            assert_eq!(cidrs(wrong), None, "{wrong:?}");
        }
    }
}
