//! Where somebody who is not root keeps what the daemon and its commands keep: the system's directories belong to others.

use std::ffi::OsString;
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};

use super::options::Options;

/// What is known of who runs this.
struct User<'a> {
    id: u32,
    owner: &'a dyn Fn(&Path) -> Option<u32>,
    variable: &'a dyn Fn(&str) -> Option<OsString>,
}

/// Gives a user other than root directories of their own, by the XDG base directory specification, unless the usual ones are theirs (as under
/// a service manager) or others are given.
pub(super) fn choose(options: &mut Options, is_given: impl Fn(&str) -> bool) {
    let user = User {
        id: rustix::process::geteuid().as_raw(),
        owner: &|path| path.metadata().ok().map(|about| about.uid()),
        variable: &|name| std::env::var_os(name),
    };
    if !is_given("cache_dir") {
        user.replace(&mut options.cache_dir, "XDG_CACHE_HOME", ".cache");
    }
    if !is_given("state_dir") {
        user.replace(&mut options.state_dir, "XDG_STATE_HOME", ".local/state");
    }
}

impl User<'_> {
    fn replace(&self, place: &mut PathBuf, variable: &str, below_home: &str) {
        if self.id == 0 || (self.owner)(place) == Some(self.id) {
            return;
        }
        let absolute = |name| (self.variable)(name).map(PathBuf::from).filter(|path| path.is_absolute());
        let base = absolute(variable).or_else(|| Some(absolute("HOME")?.join(below_home)));
        if let Some(base) = base {
            *place = base.join("flanneld");
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn place(id: u32, owner: Option<u32>, variables: &[(&str, &str)]) -> String {
        let variable =
            |name: &str| variables.iter().find(|(its, _)| *its == name).map(|(_, value)| value.into());
        let mut place = PathBuf::from("/var/cache/flanneld");
        User { id, owner: &|_| owner, variable: &variable }.replace(&mut place, "XDG_CACHE_HOME", ".cache");
        place.display().to_string()
    }

    #[test]
    fn root_and_whose_it_is_have_the_systems_cache_and_others_one_of_their_own() {
        let (home, cache) = (("HOME", "/home/me"), ("XDG_CACHE_HOME", "/fast/cache"));
        assert_eq!(place(0, None, &[home, cache]), "/var/cache/flanneld");
        assert_eq!(place(7, Some(7), &[home]), "/var/cache/flanneld");
        assert_eq!(place(7, Some(0), &[home]), "/home/me/.cache/flanneld");
        assert_eq!(place(7, None, &[home, cache]), "/fast/cache/flanneld");
        assert_eq!(place(7, None, &[home, ("XDG_CACHE_HOME", "relative")]), "/home/me/.cache/flanneld");
        assert_eq!(place(7, None, &[]), "/var/cache/flanneld");
    }
}
