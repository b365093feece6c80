//! Images of containers, made here of files of this machine, and without any registry.
//!
//! | module | job |
//! |---|---|
//! | `layout` | archives in the OCI's layout |
//! | `root` | what is in an image: programs, with the libraries that they need |
//! | [`flannel`] | flanneld and the CNI plugin |

pub mod flannel;
mod layout;
mod root;

use std::path::{Path, PathBuf};

use anyhow::Result;

use layout::Image;
use root::Root;

/// What the kubelet has each pod's sandbox run.
pub const SANDBOX: &str = "registry.k8s.io/pause:3.10.1";
/// busybox, for pods of tests. By itself it sleeps.
pub const BUSYBOX: &str = "localhost/busybox:lab";

/// Of busybox' programs those that pods of tests call by their names.
const APPLETS: [&str; 6] = ["cat", "httpd", "ip", "nc", "sh", "sleep"];

/// Writes an archive with busybox under both names, below a directory. Answers where it is.
pub(super) fn write_busybox(busybox: &Path, directory: &Path) -> Result<PathBuf> {
    let root = Root::new(&directory.join("busybox"))?;
    root.copy(busybox, "bin/busybox")?;
    for applet in APPLETS {
        root.link("busybox", &format!("bin/{applet}"))?;
    }
    let image = Image { names: &[SANDBOX, BUSYBOX], path: "/bin", command: &["/bin/sleep", "1000000000"] };
    let archive = directory.join("busybox.tar");
    image.write(root.path(), &directory.join("busybox.image"), &archive)?;
    Ok(archive)
}
