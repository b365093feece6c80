//! The container image (`deploy/image/`) in a real Docker daemon, with a read-only root file system, as manifests for flannel's image call it.

#[cfg(test)]
mod docker;

#[cfg(test)]
mod image;
