//! Files that the configuration names, opened for the process that reads them: it reaches none by itself, and gets no others.

use std::collections::BTreeSet;
use std::fs::{self, File};
use std::io;
use std::os::fd::AsFd;
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;

use bus::Facility;
use bus::messages::sit::{OpenFile, Opened};
use config::{Config, local_path};
use tokio::task::spawn_blocking;
use tokio::time::Instant;

use crate::manager::Manager;
use crate::requests::{Deferred, answer_on};

/// The files that a configuration names.
pub(crate) fn files_of(text: &str) -> BTreeSet<String> {
    match Config::parse(text) {
        Ok(config) => config.files().map(str::to_owned).collect(),
        Err(error) => {
            tracing::error!("cannot tell which files the configuration names: {error}");
            BTreeSet::new()
        }
    }
}

impl Manager {
    /// Fulfils a request for a file, refuses it, or puts it aside: the configuration that names it may be on its way.
    pub(crate) fn open_file(&mut self, request: Deferred) {
        let Deferred { address, packet, .. } = &request;
        let Some(life) = self.tasks.get(address).and_then(|entry| entry.life.as_ref()) else {
            return;
        };
        let (channel, address, header) = (life.channel.clone(), *address, packet.header);
        let url = packet.decode::<OpenFile>().unwrap_or_default().url;
        let is_named = self.files.contains(&url);
        if address.facility == Facility::Certmgr && !is_named && request.until > Instant::now() {
            return self.deferred.push(request);
        }
        let path = match (address.facility, is_named) {
            (Facility::Certmgr, true) => local_path(&url, &self.options.state_dir)
                .ok_or_else(|| "it is no file of this machine".to_owned()),
            (Facility::Certmgr, false) => Err("the configuration does not name it".to_owned()),
            _ => Err(format!("{address} reads no such files")),
        };
        let errand = self.errands.clone();
        // A file may lie on a disk that does not answer: nobody else waits for it.
        tokio::spawn(async move {
            let _errand = errand;
            let opened = match path {
                Ok(path) => spawn_blocking(move || open(&path).map_err(|error| error.to_string()))
                    .await
                    .unwrap_or_else(|error| Err(error.to_string())),
                Err(failure) => Err(failure),
            };
            match &opened {
                Ok(file) => {
                    let opened = Opened {
                        names: vec!["file".to_owned()],
                        ..Opened::default()
                    };
                    answer_on(&channel, address, header, &opened, &[file.as_fd()]);
                }
                Err(failure) => {
                    let opened = Opened {
                        failure: failure.clone(),
                        ..Opened::default()
                    };
                    answer_on(&channel, address, header, &opened, &[]);
                }
            }
        });
    }
}

/// Opens a file to read it; nothing but a file.
fn open(path: &Path) -> io::Result<File> {
    let is_file = |metadata: fs::Metadata| match metadata.is_file() {
        true => Ok(()),
        false => Err(io::Error::other("it is not a file")),
    };
    // Before, for to open a device can do something, and after, for it may be another one now. (A pipe would wait.)
    is_file(fs::metadata(path)?)?;
    let file = File::options()
        .read(true)
        .custom_flags(nix::fcntl::OFlag::O_NONBLOCK.bits())
        .open(path)?;
    is_file(file.metadata()?)?;
    Ok(file)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_files_of_a_configuration_are_those_of_its_certificates_and_keys() {
        let text = "config\n\
                    certificate name gw pem url file:/etc/s/gw.pem private-key pem url /flash/gw.key\n\
                    ca-certificate name root der url file:/etc/s/root.der\n\
                    end\n";
        let files: Vec<String> = files_of(text).into_iter().collect();
        assert_eq!(
            files,
            ["/flash/gw.key", "file:/etc/s/gw.pem", "file:/etc/s/root.der"]
        );
    }

    #[test]
    fn nothing_but_files_is_opened() {
        let folder = std::env::temp_dir().join(format!("sit-files-{}", std::process::id()));
        fs::create_dir(&folder).unwrap();
        let (file, pipe) = (folder.join("file"), folder.join("pipe"));
        fs::write(&file, "").unwrap();
        nix::unistd::mkfifo(&pipe, nix::sys::stat::Mode::S_IRWXU).unwrap();
        assert!(open(&file).is_ok());
        for other in [folder.as_path(), &pipe, Path::new("/dev/null")] {
            assert_eq!(open(other).unwrap_err().to_string(), "it is not a file");
        }
        fs::remove_dir_all(folder).unwrap();
    }
}
