//! What holds for the whole process from its first moment.

use rustix::process::{DumpableBehavior, Resource, Rlimit, set_dumpable_behavior, setrlimit};
use rustix::thread::set_no_new_privs;

/// Gives up what no command needs. To be called before any secret is read and any thread is started:
///
/// - Neither this process nor one that it starts gains privileges by running a program (`no_new_privs`).
/// - Nobody but root reads its memory, and no core dump has its secrets: not in a file, not in a pipe.
///
/// A kernel that refuses one of these is as before, and the rest holds all the same.
pub fn harden() {
    let _ = set_no_new_privs(true);
    // A handler of core dumps that is a program does not ask for the limit; a file system that others write to does not ask for the flag.
    let _ = set_dumpable_behavior(DumpableBehavior::NotDumpable);
    let _ = setrlimit(Resource::Core, Rlimit { current: Some(0), maximum: Some(0) });
}
