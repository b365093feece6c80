//! The authorities that certificates are checked with, in one file, as Debian's `update-ca-certificates` writes it.

use anyhow::{Result, ensure};

/// Certificates in PEM, one after the other in the order that they are given in.
pub fn bundle<'a>(certificates: impl Iterator<Item = &'a [u8]>) -> Result<Vec<u8>> {
    let mut bundle = Vec::new();
    for certificate in certificates {
        bundle.extend_from_slice(certificate);
        if !bundle.ends_with(b"\n") {
            bundle.push(b'\n');
        }
    }
    ensure!(!bundle.is_empty(), "no certificates of authorities");
    Ok(bundle)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_certificate_begins_a_line_of_its_own_and_none_is_an_error() -> Result<()> {
        let bundle = bundle([&b"one"[..], b"two\n", b"three"].into_iter())?;
        assert_eq!(bundle, b"one\ntwo\nthree\n");
        assert!(super::bundle(std::iter::empty()).is_err());
        Ok(())
    }
}
