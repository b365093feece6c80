//! A tree as a layer: a compressed archive that is the same wherever and whenever it is made.

use anyhow::Result;
use flate2::{Compression, GzBuilder};
use sha2::{Digest, Sha256};
use tar::{Builder, EntryType, Header, HeaderMode};

use super::tree::{Entry, Tree};

/// A layer.
pub struct Layer {
    /// The digest of the archive before it was compressed.
    pub diff_id: String,
    /// The archive, by gzip.
    pub blob: Vec<u8>,
    /// How large the archive is before it is compressed, in bytes.
    pub unpacked: usize,
}

impl Layer {
    /// Packs a tree. All in it belongs to root, and is of this time, in seconds of the epoch.
    pub fn pack(tree: &Tree, time: u64) -> Result<Self> {
        let archive = archive(tree, time)?;
        // Without a name, a time or a system in its head.
        let mut gzip = GzBuilder::new().mtime(0).operating_system(255).write(Vec::new(), Compression::best());
        std::io::Write::write_all(&mut gzip, &archive)?;
        Ok(Self { diff_id: digest(&archive), blob: gzip.finish()?, unpacked: archive.len() })
    }
}

/// `sha256:…`
pub fn digest(bytes: &[u8]) -> String {
    format!("sha256:{}", hex::encode(Sha256::digest(bytes)))
}

/// A tree as an archive, with all its files of this time.
pub fn archive(tree: &Tree, time: u64) -> Result<Vec<u8>> {
    let mut archive = Builder::new(Vec::new());
    archive.mode(HeaderMode::Deterministic);
    for (path, entry) in tree.iter() {
        let mut header = Header::new_gnu();
        header.set_mtime(time);
        header.set_uid(0);
        header.set_gid(0);
        header.set_size(0);
        match entry {
            Entry::Directory(mode) => {
                header.set_entry_type(EntryType::Directory);
                header.set_mode(*mode);
                archive.append_data(&mut header, format!("{path}/"), std::io::empty())?;
            }
            Entry::File(mode, content) => {
                header.set_entry_type(EntryType::Regular);
                header.set_mode(*mode);
                header.set_size(content.len() as u64);
                archive.append_data(&mut header, path, content.as_slice())?;
            }
            Entry::Link(target) => {
                header.set_entry_type(EntryType::Symlink);
                header.set_mode(0o777);
                archive.append_link(&mut header, path, target)?;
            }
        }
    }
    Ok(archive.into_inner()?)
}

#[cfg(test)]
mod tests {
    use super::*;

    const TIME: u64 = 1_700_000_000;

    fn tree(order: &[usize]) -> Result<Tree> {
        let mut tree = Tree::default();
        for step in order {
            match step {
                0 => tree.program("opt/bin/flanneld", b"program".to_vec())?,
                1 => tree.link("usr/bin/cp", "/opt/bin/flanneld")?,
                _ => tree.add("tmp", Entry::Directory(0o1777))?,
            }
        }
        Ok(tree)
    }

    #[test]
    fn the_same_files_make_the_same_layer_in_whatever_order_they_came() -> Result<()> {
        let (one, other) = (Layer::pack(&tree(&[0, 1, 2])?, TIME)?, Layer::pack(&tree(&[2, 1, 0])?, TIME)?);
        assert_eq!(digest(&one.blob), digest(&other.blob));
        assert_eq!(one.diff_id, other.diff_id);
        Ok(())
    }

    #[test]
    fn other_content_another_mode_and_another_time_each_make_another_layer() -> Result<()> {
        let same = || tree(&[0, 1]);
        let (mut content, mut mode) = (Tree::default(), Tree::default());
        content.program("a", b"1".to_vec())?;
        mode.file("a", 0o644, b"1".to_vec())?;
        let packed = |tree: &Tree, time| anyhow::Ok(Layer::pack(tree, time)?.diff_id);
        let all = [
            packed(&same()?, TIME)?,
            packed(&same()?, TIME + 1)?,
            packed(&content, TIME)?,
            packed(&mode, TIME)?,
        ];
        let different: std::collections::BTreeSet<&String> = all.iter().collect();
        assert_eq!(different.len(), all.len(), "{all:?}");
        Ok(())
    }

    #[test]
    fn all_in_it_is_roots_and_of_the_time_that_was_given() -> Result<()> {
        let layer = Layer::pack(&tree(&[0, 1, 2])?, TIME)?;
        let mut archive = tar::Archive::new(flate2::read::GzDecoder::new(layer.blob.as_slice()));
        let mut seen = Vec::new();
        for entry in archive.entries()? {
            let entry = entry?;
            let header = entry.header();
            assert_eq!((header.uid()?, header.gid()?, header.mtime()?), (0, 0, TIME));
            seen.push((entry.path()?.display().to_string(), header.mode()?));
        }
        let expected = [
            ("opt/", 0o755),
            ("opt/bin/", 0o755),
            ("opt/bin/flanneld", 0o755),
            ("tmp/", 0o1777),
            ("usr/", 0o755),
            ("usr/bin/", 0o755),
            ("usr/bin/cp", 0o777),
        ];
        assert_eq!(seen, expected.map(|(path, mode)| (path.to_owned(), mode)));
        Ok(())
    }
}
