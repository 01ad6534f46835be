//! A private directory for a child, and its removal, whatever the child made of it.

use std::ffi::OsString;
use std::fs::{self, DirBuilder, Permissions};
use std::hash::{BuildHasher, RandomState};
use std::io;
use std::os::unix::fs::{DirBuilderExt, PermissionsExt, chown};
use std::path::{Path, PathBuf};

/// A directory under the system's temporary one that only its owner can enter. It is removed when this is dropped.
#[derive(Debug)]
pub(crate) struct Scratch(PathBuf);

impl Scratch {
    /// Makes one, for another user if one is given.
    pub(crate) fn new(user: Option<u32>) -> io::Result<Self> {
        let path = std::env::temp_dir().join(format!("counterpoint-{:016x}", random()));
        // Fails if something is there already, so nobody can have prepared it.
        DirBuilder::new().mode(0o700).create(&path)?;
        let scratch = Self(path);
        if user.is_some() {
            chown(&scratch.0, user, user)?;
        }
        Ok(scratch)
    }

    pub(crate) fn path(&self) -> &Path {
        &self.0
    }
}

impl Drop for Scratch {
    fn drop(&mut self) {
        if let Err(error) = remove(&self.0) {
            tracing::warn!(directory = %self.0.display(), %error, "cannot remove the temporary directory of a child");
        }
    }
}

/// An unpredictable number: the standard library seeds its hash maps with randomness from the kernel.
pub(crate) fn random() -> u64 {
    RandomState::new().hash_one(0)
}

/// Removes a tree of any depth without recursion and without long paths: a directory that is not empty hands those within
/// it up to the top before it goes.
fn remove(top: &Path) -> io::Result<()> {
    let name = random();
    let mut moved = 0_u64;
    loop {
        let mut directories = Vec::new();
        for entry in fs::read_dir(top)? {
            let entry = entry?;
            if entry.file_type()?.is_dir() {
                directories.push(entry.file_name())
            } else {
                fs::remove_file(entry.path())?
            }
        }
        if directories.is_empty() {
            return fs::remove_dir(top);
        }
        for directory in directories {
            flatten(&top.join(directory), || {
                moved += 1;
                top.join(OsString::from(format!("{name:016x}.{moved}")))
            })?;
        }
    }
}

fn flatten(directory: &Path, mut place_at_the_top: impl FnMut() -> PathBuf) -> io::Result<()> {
    let open = |path: &Path| fs::set_permissions(path, Permissions::from_mode(0o700));
    open(directory)?;
    for entry in fs::read_dir(directory)? {
        let entry = entry?;
        if entry.file_type()?.is_dir() {
            // To move a directory is to change it, which takes the right to write it.
            open(&entry.path())?;
            fs::rename(entry.path(), place_at_the_top())?;
        } else {
            fs::remove_file(entry.path())?;
        }
    }
    fs::remove_dir(directory)
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::symlink;

    use super::*;

    #[test]
    fn it_is_private_and_goes_with_everything_in_it_but_never_follows_a_link() {
        let outside = Scratch::new(None).unwrap();
        fs::write(outside.path().join("precious"), "x").unwrap();
        let scratch = Scratch::new(None).unwrap();
        let path = scratch.path().to_owned();
        assert_eq!(fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o700);
        fs::create_dir_all(path.join("a/b/c")).unwrap();
        fs::write(path.join("a/b/file"), "x").unwrap();
        symlink(outside.path(), path.join("a/link")).unwrap();
        symlink("/nowhere", path.join("dangling")).unwrap();
        fs::set_permissions(path.join("a/b"), Permissions::from_mode(0o000)).unwrap();
        drop(scratch);
        assert!(!path.exists());
        assert!(outside.path().join("precious").exists());
    }

    #[test]
    fn a_tree_deeper_than_any_path_may_be_long_is_removed() {
        let scratch = Scratch::new(None).unwrap();
        let path = scratch.path().to_owned();
        // Built from below, each time as the only entry of a new parent.
        fs::create_dir(path.join("0")).unwrap();
        for depth in 1..3000 {
            fs::create_dir(path.join(depth.to_string())).unwrap();
            fs::rename(path.join((depth - 1).to_string()), path.join(format!("{depth}/d"))).unwrap();
        }
        drop(scratch);
        assert!(!path.exists());
    }
}
