//! A daemon whose leases are in Kubernetes: which store that is, and where it keeps its state, if nothing says so.

use std::path::Path;

use flannel_kube_store::prefix::Keys;

use super::options::{Options, Store};

/// Takes `--kube-subnet-mgr` for `--store=kube`. `is_given`: whether an option was.
pub(super) fn settle(options: &mut Options, is_given: impl Fn(&str) -> bool) -> Result<(), String> {
    if options.kube_subnet_mgr {
        if is_given("store") && options.store != Store::Kube {
            return Err("--kube-subnet-mgr keeps leases in Kubernetes, and --store says elsewhere: right would be one of them".into());
        }
        options.store = Store::Kube;
    }
    if options.store != Store::Kube {
        return Ok(());
    }
    if let Err(wrong) = Keys::new(&options.kube_annotation_prefix) {
        return Err(format!("--kube-annotation-prefix: {wrong}"));
    }
    if !is_given("state_dir") && !options.state_dir.exists() {
        options.state_dir = beside(&options.subnet_file);
    }
    Ok(())
}

/// A container has nothing of its host's but the directory of the subnet file: what is there outlasts the container.
fn beside(subnet_file: &Path) -> std::path::PathBuf {
    subnet_file.with_file_name("state")
}

#[cfg(test)]
mod tests {
    use std::ffi::OsString;

    use super::super::parse;
    use super::*;

    fn options(arguments: &[&str]) -> Result<Options, String> {
        let all = std::iter::once("flanneld").chain(arguments.iter().copied()).map(OsString::from);
        parse(all).map(|cli| cli.options).map_err(|error| error.to_string())
    }

    #[test]
    fn upstreams_flag_and_our_store_are_the_same() {
        for arguments in
            [&["--kube-subnet-mgr"][..], &["--store=kube"], &["-kube-subnet-mgr=true", "--store", "kube"]]
        {
            assert_eq!(options(arguments).expect("accepted").store, Store::Kube, "{arguments:?}");
        }
        assert_eq!(options(&["--kube-subnet-mgr=false"]).expect("accepted").store, Store::Etcd);
    }

    #[test]
    fn two_different_stores_are_refused() {
        let error = options(&["--kube-subnet-mgr", "--store=etcd"]).map(|_| ()).expect_err("refused");
        assert!(error.contains("--kube-subnet-mgr") && error.contains("--store"), "{error}");
    }

    #[test]
    fn a_prefix_that_no_annotation_can_have_is_refused_where_it_is_of_use() {
        let error =
            options(&["--store=kube", "--kube-annotation-prefix=a b"]).map(|_| ()).expect_err("refused");
        assert!(error.contains("--kube-annotation-prefix"), "{error}");
        assert!(options(&["--kube-annotation-prefix=a b"]).is_ok(), "as upstream");
    }

    #[test]
    fn state_is_kept_beside_the_subnet_file_unless_a_place_is_given() {
        let given = options(&["--store=kube", "--state-dir=/s"]).expect("accepted");
        assert_eq!(given.state_dir, Path::new("/s"));
        assert_eq!(beside(Path::new("/run/flannel/subnet.env")), Path::new("/run/flannel/state"));
    }
}
