//! The folders of the node: made before there is a process, and given to those whose they are.

use std::fs::{self, DirBuilder, Metadata, Permissions};
use std::io;
use std::os::unix::fs::{DirBuilderExt, MetadataExt, PermissionsExt, lchown};
use std::path::Path;

use bus::Facility;
use task::{Directories, Protection};

use crate::Options;
use crate::error::Error;
use crate::users::Users;

/// What earlier versions had elsewhere in the state directory.
const MOVED: [(&str, &str); 2] = [
    ("master.key", "sct/master.key"),
    ("accounting", "aaamgr/accounting"),
];

/// Makes the folders of the bus, of the counters and of each facility, below directories that exist. What an earlier node left on the bus and in the
/// counters is removed: it would pass for tasks of this one. (The lock says that the node is gone, and its tasks died with it.)
///
/// Returns, in words, which folders of the state directory cannot be given to those whose they are, as on file systems without owners.
pub(crate) fn prepare(options: &Options, users: Option<&Users>) -> Result<Vec<String>, Error> {
    let mut missing = Vec::new();
    let directories = Directories {
        run: &options.run_dir,
        state: &options.state_dir,
        boot_config: &options.config,
    };
    let closed = if users.is_some() { 0o750 } else { 0o700 };
    for (name, mode) in [("bus", closed), ("counters", 0o755), ("netns", 0o755)] {
        make(&options.run_dir.join(name), mode)?;
    }
    for name in ["bus", "counters"] {
        empty(&options.run_dir.join(name))?;
    }
    if let Some(users) = users {
        // Only the group goes further, and nobody writes.
        for path in [&options.run_dir, &options.state_dir, &options.run_dir.join("bus")] {
            admit(path, users.group).map_err(|source| wrong(path, source))?;
        }
    }
    for facility in Facility::ALL {
        if matches!(facility, Facility::Sit | Facility::Cli) {
            continue;
        }
        let owner = users
            .and_then(|users| users.of(*facility))
            .unwrap_or_else(ourselves);
        let own = Protection::of(*facility).own.iter();
        let own = own.map(|place| (directories.path(*place), 0o750));
        for (path, mode) in own.chain([(directories.counters(*facility), 0o755)]) {
            make(&path, mode)?;
            // A folder may be a link to another disk: the administrator's, for only he may write where it lies.
            let place = fs::canonicalize(&path).map_err(|source| wrong(&path, source))?;
            match give(&place, owner) {
                Err(error) if is_without_owners(&error) => missing.push(format!(
                    "{} cannot be given to user {}: {error}; {} may be unable to use it",
                    path.display(),
                    owner.0,
                    facility.name()
                )),
                given => given.map_err(|source| wrong(&path, source))?,
            }
        }
    }
    for (old, new) in MOVED {
        let (old, new) = (options.state_dir.join(old), options.state_dir.join(new));
        if old.is_file() && !new.exists() {
            let folder = new.parent().unwrap_or(&options.state_dir);
            let owner = fs::metadata(folder).map(|folder| (folder.uid(), folder.gid()));
            owner
                .and_then(|owner| fs::rename(&old, &new).and_then(|()| give(&new, owner)))
                .map_err(|source| wrong(&new, source))?;
        }
    }
    Ok(missing)
}

/// What file systems without owners, of others, and those that are only read answer to a change of owner.
fn is_without_owners(error: &io::Error) -> bool {
    matches!(
        error.kind(),
        io::ErrorKind::PermissionDenied | io::ErrorKind::ReadOnlyFilesystem | io::ErrorKind::Unsupported
    )
}

/// Makes a directory, unless it exists, and checks that it is ours to use.
pub(crate) fn make(path: &Path, mode: u32) -> Result<(), Error> {
    DirBuilder::new()
        .recursive(true)
        .mode(mode)
        .create(path)
        .map_err(|source| wrong(path, source))?;
    let metadata = fs::metadata(path).map_err(|source| wrong(path, source))?;
    // What an earlier node of another user left is not ours to use.
    if metadata.uid() != nix::unistd::geteuid().as_raw() && !nix::unistd::geteuid().is_root() {
        let text = format!("it belongs to user {}", metadata.uid());
        return Err(wrong(path, io::Error::other(text)));
    }
    Ok(())
}

/// Removes what is in a directory.
fn empty(path: &Path) -> Result<(), Error> {
    let entries = fs::read_dir(path).map_err(|source| wrong(path, source))?;
    for entry in entries {
        let entry = entry.map_err(|source| wrong(path, source))?;
        let removed = match entry.file_type() {
            Ok(kind) if kind.is_dir() => fs::remove_dir_all(entry.path()),
            _ => fs::remove_file(entry.path()),
        };
        removed.map_err(|source| wrong(&entry.path(), source))?;
    }
    Ok(())
}

/// Lets a group pass through a directory, if not everybody may.
fn admit(path: &Path, group: u32) -> io::Result<()> {
    let mode = fs::metadata(path)?.permissions().mode();
    if mode & 0o001 != 0 {
        return Ok(());
    }
    fs::set_permissions(path, Permissions::from_mode(mode & 0o7777 | 0o010))?;
    lchown(path, None, Some(group))
}

/// Gives a folder, with all that is in it, to a user and his group. Nothing is done when it is his already.
fn give(path: &Path, owner: (u32, u32)) -> io::Result<()> {
    let metadata = fs::symlink_metadata(path)?;
    if owner == (metadata.uid(), metadata.gid()) || !can_be_given(&metadata) {
        return Ok(());
    }
    if metadata.is_dir() {
        for entry in fs::read_dir(path)? {
            give(&entry?.path(), owner)?;
        }
    }
    // The folder last: what was interrupted is done again.
    lchown(path, Some(owner.0), Some(owner.1))
}

/// Folders, and files that have no other name: what a process might have put there to get at the file of another stays whose it is.
fn can_be_given(metadata: &Metadata) -> bool {
    metadata.is_dir() || metadata.is_file() && metadata.nlink() == 1
}

fn ourselves() -> (u32, u32) {
    (nix::unistd::geteuid().as_raw(), nix::unistd::getegid().as_raw())
}

fn wrong(path: &Path, source: io::Error) -> Error {
    Error::Directory {
        path: path.to_owned(),
        source,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::path::PathBuf;

    struct Folder(PathBuf);

    impl Folder {
        fn new(name: &str) -> Self {
            let path = std::env::temp_dir().join(format!("sit-folders-{name}-{}", std::process::id()));
            fs::create_dir(&path).unwrap();
            Self(path)
        }

        fn options(&self) -> Options {
            let options = Options::new(self.0.join("config"), self.0.join("state"), self.0.join("run"));
            for path in [&options.state_dir, &options.run_dir] {
                make(path, 0o755).unwrap();
            }
            options
        }
    }

    impl Drop for Folder {
        fn drop(&mut self) {
            let _ = fs::remove_dir_all(&self.0);
        }
    }

    #[test]
    fn a_directory_is_emptied() {
        let folder = Folder::new("empty");
        fs::write(folder.0.join("iftask-7"), "").unwrap();
        fs::create_dir(folder.0.join("iftask")).unwrap();
        fs::write(folder.0.join("iftask/iftask-8"), "").unwrap();
        empty(&folder.0).unwrap();
        assert_eq!(fs::read_dir(&folder.0).unwrap().count(), 0);
    }

    #[test]
    fn what_earlier_versions_had_elsewhere_is_moved_once() {
        let folder = Folder::new("moved");
        let options = folder.options();
        let (old, new) = (
            options.state_dir.join("master.key"),
            options.state_dir.join("sct/master.key"),
        );
        fs::write(&old, "first").unwrap();
        assert_eq!(prepare(&options, None).unwrap(), Vec::<String>::new());
        assert_eq!(fs::read_to_string(&new).unwrap(), "first");
        // One that is there is never replaced.
        fs::write(&old, "second").unwrap();
        prepare(&options, None).unwrap();
        assert_eq!(fs::read_to_string(&new).unwrap(), "first");
        assert!(old.exists());
    }

    #[test]
    fn a_folder_may_be_a_link_to_another_disk() {
        if !nix::unistd::geteuid().is_root() {
            return;
        }
        let folder = Folder::new("disk");
        let options = folder.options();
        let Ok(users) = Users::find(60_700, &[&options.run_dir, &options.state_dir]) else {
            return;
        };
        let disk = folder.0.join("disk");
        fs::create_dir(&disk).unwrap();
        std::os::unix::fs::symlink(&disk, options.state_dir.join("hd-raid")).unwrap();
        assert_eq!(prepare(&options, Some(&users)).unwrap(), Vec::<String>::new());
        let bulkstat = users.of(Facility::Bulkstat).unwrap().0;
        assert_eq!(fs::metadata(&disk).unwrap().uid(), bulkstat);
    }

    #[test]
    fn a_file_system_without_owners_is_no_reason_not_to_start() {
        let eperm = io::Error::from_raw_os_error(nix::libc::EPERM);
        let erofs = io::Error::from_raw_os_error(nix::libc::EROFS);
        assert!(is_without_owners(&eperm) && is_without_owners(&erofs));
        assert!(!is_without_owners(&io::Error::from_raw_os_error(
            nix::libc::ENOENT
        )));
    }

    #[test]
    fn each_facility_gets_its_folders_and_what_is_in_them() {
        if !nix::unistd::geteuid().is_root() {
            return;
        }
        let folder = Folder::new("given");
        let options = folder.options();
        let Ok(users) = Users::find(60_700, &[&options.run_dir, &options.state_dir]) else {
            return;
        };
        let state = &options.state_dir;
        fs::create_dir_all(state.join("hd-raid/deep")).unwrap();
        fs::write(state.join("hd-raid/deep/file"), "").unwrap();
        fs::write(state.join("other"), "").unwrap();
        fs::hard_link(state.join("other"), state.join("hd-raid/link")).unwrap();
        std::os::unix::fs::symlink("../other", state.join("hd-raid/symlink")).unwrap();
        prepare(&options, Some(&users)).unwrap();
        let owner = |path: &str| fs::symlink_metadata(state.join(path)).unwrap().uid();
        let bulkstat = users.of(Facility::Bulkstat).unwrap().0;
        for given in ["hd-raid", "hd-raid/deep", "hd-raid/deep/file"] {
            assert_eq!(owner(given), bulkstat, "{given}");
        }
        for kept in ["hd-raid/link", "hd-raid/symlink", "other"] {
            assert_eq!(owner(kept), 0, "{kept}");
        }
        let bus = fs::metadata(options.run_dir.join("bus")).unwrap();
        assert_eq!(
            (bus.uid(), bus.gid(), bus.permissions().mode() & 0o777),
            (0, users.group, 0o750)
        );
        // A node whose processes are all its own takes them back.
        prepare(&options, None).unwrap();
        assert_eq!(owner("hd-raid/deep/file"), 0);
        let bus = fs::metadata(options.run_dir.join("bus")).unwrap();
        assert_eq!(bus.permissions().mode() & 0o777, 0o750);
    }
}
