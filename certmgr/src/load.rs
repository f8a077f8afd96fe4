//! Reading what the configuration names: certificate files, key files, keys in the configuration.
//!
//! `sit` opens the files. This is the only place of the node that reads a private key file.

use std::collections::{BTreeMap, HashMap};
use std::fs::File;
use std::io::{self, ErrorKind};
use std::os::unix::fs::FileExt;
use std::path::Path;
use std::sync::Arc;

use config::{CertificateSource, Config, SecretText, local_path};
use pki::{Certificate, MAX_FILE_LEN, PrivateKey, issuing_path};
use zeroize::Zeroizing;

use crate::Error;
use crate::state::{Anchor, Own, Store};

/// The private keys that stand in the configuration itself, opened: by their sealed text.
pub(crate) type Revealed = HashMap<SecretText, Result<Zeroizing<Vec<u8>>, String>>;

/// The files that the configuration names, or why they could not be opened: by their URL.
pub(crate) type OpenedFiles = HashMap<String, Result<File, String>>;

/// Loads all that `config` names. What cannot be loaded is kept with the reason.
pub(crate) fn load(config: &Config, revealed: &Revealed, files: &OpenedFiles, state_dir: &Path) -> Store {
    let loader = Loader {
        config,
        revealed,
        files,
        state_dir,
    };
    let mut anchors = BTreeMap::new();
    let mut intermediates = Vec::new();
    for (name, ca) in &config.ca_certificates {
        let loaded = loader.certificates(&ca.source);
        intermediates.extend(loaded.iter().flatten().cloned());
        anchors.insert(name.clone(), loaded.map(|certificates| Anchor { certificates }));
    }
    let mut own = BTreeMap::new();
    for (name, certificate) in &config.certificates {
        own.insert(name.clone(), loader.own(certificate, &intermediates));
    }
    Store::new(own, anchors)
}

struct Loader<'a> {
    config: &'a Config,
    revealed: &'a Revealed,
    files: &'a OpenedFiles,
    state_dir: &'a Path,
}

impl Loader<'_> {
    fn own(&self, configured: &config::Certificate, intermediates: &[Certificate]) -> Result<Own, Error> {
        let file = self.certificates(&configured.source)?;
        let (leaf, rest) = file.split_first().ok_or(Error::Contents {
            origin: origin(&configured.source),
            source: pki::Error::NoCertificateInFile,
        })?;
        let chain = issuing_path(leaf, &[rest, intermediates].concat());
        let key = configured
            .private_key
            .as_ref()
            .or(self.config.private_key.as_ref())
            .ok_or(Error::NoPrivateKey)?;
        let (origin, key) = self.private_key(key)?;
        key.check_certificate(leaf)
            .map_err(|source| Error::Contents { origin, source })?;
        Ok(Own {
            chain,
            key: Arc::new(key),
        })
    }

    fn certificates(&self, source: &CertificateSource) -> Result<Vec<Certificate>, Error> {
        let contents = match source {
            CertificateSource::Data(text) => with_lines(text.as_bytes()),
            CertificateSource::Url(_, url) => self.read(url)?,
        };
        Certificate::from_file(&contents).map_err(|error| Error::Contents {
            origin: origin(source),
            source: error,
        })
    }

    fn private_key(&self, source: &config::PrivateKey) -> Result<(String, PrivateKey), Error> {
        let (origin, contents) = match source {
            config::PrivateKey::Data(sealed) => {
                let opened = match self.revealed.get(sealed) {
                    Some(Ok(secret)) => with_lines(secret),
                    Some(Err(reason)) => return Err(Error::Secret(reason.clone())),
                    None => return Err(Error::Secret("it was not asked for".to_owned())),
                };
                ("private key in the configuration".to_owned(), opened)
            }
            config::PrivateKey::Url(_, url) => (url.clone(), self.read(url)?),
        };
        match PrivateKey::from_file(&contents, None) {
            Ok(key) => Ok((origin, key)),
            Err(source) => Err(Error::Contents { origin, source }),
        }
    }

    /// Reads a file, at most one byte more than is accepted. The buffer never moves and is wiped, as it may be a key.
    fn read(&self, url: &str) -> Result<Zeroizing<Vec<u8>>, Error> {
        let path = local_path(url, self.state_dir).ok_or_else(|| Error::Url(url.to_owned()))?;
        let failed = |source| Error::File {
            path: path.clone(),
            source,
        };
        let mut contents = Zeroizing::new(vec![0; MAX_FILE_LEN + 1]);
        let file = match self.files.get(url) {
            Some(Ok(file)) => file,
            Some(Err(reason)) => return Err(failed(io::Error::other(reason.clone()))),
            None => return Err(failed(ErrorKind::NotFound.into())),
        };
        let mut len = 0;
        while let Some(room) = contents.get_mut(len..).filter(|room| !room.is_empty()) {
            // From its beginning, also when it is named twice.
            match file.read_at(room, len as u64) {
                Ok(0) => break,
                Ok(read) => len += read,
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                Err(error) => return Err(failed(error)),
            }
        }
        contents.truncate(len);
        Ok(contents)
    }
}

/// PEM text from a line of the configuration, where `\n` stands for a new line. The copy is wiped, as it may be a key.
fn with_lines(text: &[u8]) -> Zeroizing<Vec<u8>> {
    let mut lines = Zeroizing::new(Vec::with_capacity(text.len()));
    let mut rest = text;
    while let [first, tail @ ..] = rest {
        if let [b'\\', b'n', tail @ ..] = rest {
            lines.push(b'\n');
            rest = tail;
        } else {
            lines.push(*first);
            rest = tail;
        }
    }
    lines
}

fn origin(source: &CertificateSource) -> String {
    match source {
        CertificateSource::Data(_) => "certificate in the configuration".to_owned(),
        CertificateSource::Url(_, url) => url.clone(),
    }
}

#[cfg(test)]
mod tests {
    use std::fs;

    use config::Encoding;

    use super::*;
    use crate::test_pki::{Folder, Made};

    /// A configuration with one certificate `gw` and its key, and one anchor `root`.
    fn configuration(certificate: &str, key: Option<&str>, root: &str) -> Config {
        let url = |url: &str| CertificateSource::Url(Encoding::Pem, url.to_owned());
        let private_key = key.map(|key| config::PrivateKey::Url(Encoding::Pem, key.to_owned()));
        let mut config = Config::default();
        let certificate = config::Certificate {
            source: url(certificate),
            private_key,
        };
        config.certificates.insert("gw".to_owned(), certificate);
        config
            .ca_certificates
            .insert("root".to_owned(), config::CaCertificate { source: url(root) });
        config
    }

    /// Loads it, with the test in the place of `sit`.
    fn loaded(config: &Config, revealed: &Revealed, folder: &Folder) -> Store {
        let open = |url: &str| {
            let path = local_path(url, folder.path()).ok_or("no local file")?;
            File::open(path).map_err(|error| error.to_string())
        };
        let files = config.files().map(|url| (url.to_owned(), open(url))).collect();
        load(config, revealed, &files, folder.path())
    }

    fn reason(store: &Store) -> String {
        store
            .own("gw")
            .map(|_| String::new())
            .unwrap_or_else(|reason| reason)
    }

    #[test]
    fn files_are_loaded_by_url_and_from_flash() {
        let folder = Folder::new("load-url");
        let (root, sub) = (Made::root("Root"), Made::root("Unrelated"));
        let leaf = Made::leaf("gw.test", &root);
        let chain = [leaf.certificate_pem(), sub.certificate_pem()].concat();
        folder.write("flash/gw.pem", &chain);
        let key = folder.write("gw.key", &leaf.key_pem());
        let root_file = folder.write("root.pem", &root.certificate_pem());
        let config = configuration(
            "/flash/gw.pem",
            Some(&format!("file:{key}")),
            &format!("file://{root_file}"),
        );
        let store = loaded(&config, &Revealed::new(), &folder);
        assert!(store.is_whole());
        let own = store.own("gw").unwrap();
        assert_eq!(
            own.chain.len(),
            1,
            "neither the root nor what did not issue the certificate is sent"
        );
        assert_eq!(own.chain[0].subject(), "CN=gw.test");
        let trusted = store.trusted(&["root".to_owned()]);
        assert_eq!(
            (trusted.anchors.certificates().len(), trusted.missing.as_str()),
            (1, "")
        );
        let again = store.trusted(&["root".to_owned()]);
        assert!(Arc::ptr_eq(&trusted, &again), "put together once");
    }

    #[test]
    fn the_key_of_the_node_serves_certificates_without_one() {
        let folder = Folder::new("load-node-key");
        let root = Made::root("Root");
        let leaf = Made::leaf("gw.test", &root);
        let certificate = folder.write("gw.pem", &leaf.certificate_pem());
        let key = folder.write("gw.key", &leaf.key_pem());
        let mut config = configuration(&certificate, None, "/nowhere");
        assert!(reason(&loaded(&config, &Revealed::new(), &folder)).contains("no private key is configured"));
        config.private_key = Some(config::PrivateKey::Url(Encoding::Pem, key));
        let store = loaded(&config, &Revealed::new(), &folder);
        assert_eq!(reason(&store), "");
        assert!(!store.is_whole(), "the anchor is missing");
    }

    #[test]
    fn a_key_in_the_configuration_is_taken_as_revealed() {
        let folder = Folder::new("load-sealed");
        let root = Made::root("Root");
        let leaf = Made::leaf("gw.test", &root);
        let mut config = Config::default();
        let sealed = SecretText::from_sealed("+B1sealed");
        let in_a_line = |pem: Vec<u8>| String::from_utf8(pem).unwrap().replace('\n', "\\n");
        let certificate = config::Certificate {
            source: CertificateSource::Data(in_a_line(leaf.certificate_pem())),
            private_key: Some(config::PrivateKey::Data(sealed.clone())),
        };
        config.certificates.insert("gw".to_owned(), certificate);
        let mut revealed = Revealed::new();
        revealed.insert(
            sealed.clone(),
            Ok(Zeroizing::new(in_a_line(leaf.key_pem()).into_bytes())),
        );
        assert_eq!(reason(&loaded(&config, &revealed, &folder)), "");
        revealed.insert(sealed, Err("other master key".to_owned()));
        let failure = reason(&loaded(&config, &revealed, &folder));
        assert_eq!(
            failure,
            "certificate gw: its private key cannot be decrypted: other master key"
        );
    }

    #[test]
    fn what_cannot_be_loaded_is_explained() {
        let folder = Folder::new("load-bad");
        let root = Made::root("Root");
        let (leaf, other) = (Made::leaf("gw.test", &root), Made::leaf("other.test", &root));
        let certificate = folder.write("gw.pem", &leaf.certificate_pem());
        let key = folder.write("gw.key", &leaf.key_pem());
        let other_key = folder.write("other.key", &other.key_pem());
        let garbage = folder.write("garbage.pem", b"garbage");
        let huge = folder.write("huge.pem", &vec![b'x'; MAX_FILE_LEN + 1]);
        let cases = [
            (
                "/nowhere/gw.pem".to_owned(),
                key.clone(),
                "cannot read /nowhere/gw.pem: No such file".to_owned(),
            ),
            (
                garbage.clone(),
                key.clone(),
                format!("{garbage}: no certificate found"),
            ),
            (huge.clone(), key.clone(), format!("{huge}: file is too large")),
            (
                "http://host/gw.pem".to_owned(),
                key,
                "http://host/gw.pem is not a local file".to_owned(),
            ),
            (
                certificate.clone(),
                garbage.clone(),
                format!("{garbage}: private key is malformed"),
            ),
            (
                certificate,
                other_key.clone(),
                format!("{other_key}: private key does not belong to the certificate"),
            ),
        ];
        for (certificate, key, expected) in cases {
            let config = configuration(&certificate, Some(&key), "/nowhere");
            let reason = reason(&loaded(&config, &Revealed::new(), &folder));
            assert!(
                reason.contains(&expected),
                "{reason:?} does not contain {expected:?}"
            );
        }
    }

    #[test]
    fn names_that_are_not_configured_are_told() {
        let store = Store::default();
        assert_eq!(
            store.own("gw").map(drop),
            Err("certificate gw is not configured".to_owned())
        );
        let trusted = store.trusted(&["a".to_owned(), "b".to_owned()]);
        assert!(trusted.anchors.certificates().is_empty());
        assert_eq!(
            trusted.missing,
            "ca-certificate a is not configured; ca-certificate b is not configured"
        );
    }

    #[test]
    fn a_renewed_file_is_seen_at_the_next_loading() {
        let folder = Folder::new("load-renewed");
        let root = Made::root("Root");
        let leaf = Made::leaf("gw.test", &root);
        let certificate = folder.write("gw.pem", &leaf.certificate_pem());
        let key = folder.write("gw.key", &leaf.key_pem());
        let config = configuration(&certificate, Some(&key), "/nowhere");
        let first = loaded(&config, &Revealed::new(), &folder);
        let renewed = leaf.renewed(&root);
        fs::write(&certificate, renewed.certificate_pem()).unwrap();
        let second = loaded(&config, &Revealed::new(), &folder);
        assert_ne!(first.own("gw").unwrap().chain, second.own("gw").unwrap().chain);
    }

    #[test]
    fn a_file_may_hold_certificate_and_key() {
        let folder = Folder::new("load-both");
        let root = Made::root("Root");
        let leaf = Made::leaf("gw.test", &root);
        let both = folder.write("gw.pem", &[leaf.certificate_pem(), leaf.key_pem()].concat());
        let config = configuration(&both, Some(&both), "/nowhere");
        assert_eq!(reason(&loaded(&config, &Revealed::new(), &folder)), "");
    }
}
