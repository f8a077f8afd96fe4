//! A certificate authority for one scenario, made with the `openssl` command so that certificates are not only our own reading.

use std::path::{Path, PathBuf};

use crate::process::run;

/// A root and what it issues.
pub struct Authority {
    folder: PathBuf,
    key_type: String,
    certificate: PathBuf,
}

/// A certificate and its key, both PEM files.
pub struct Issued {
    /// The certificate.
    pub certificate: PathBuf,
    /// The private key.
    pub key: PathBuf,
}

impl Authority {
    /// Makes a root in `folder`; keys are of `key_type`: `rsa:2048` or `ec:prime256v1`.
    pub fn new(folder: &Path, key_type: &str) -> Self {
        std::fs::create_dir_all(folder).expect("pki folder");
        let authority = Self {
            folder: folder.to_owned(),
            key_type: key_type.to_owned(),
            certificate: folder.join("root.pem"),
        };
        authority.key("root");
        run(&[
            "openssl",
            "req",
            "-x509",
            "-new",
            "-key",
            &authority.path("root.key"),
            "-out",
            &authority.path("root.pem"),
            "-days",
            "30",
            "-subj",
            "/O=Starward test/CN=test root",
            "-addext",
            "basicConstraints=critical,CA:true",
            "-addext",
            "keyUsage=critical,keyCertSign,cRLSign",
        ]);
        authority
    }

    /// The root certificate.
    pub fn certificate(&self) -> &PathBuf {
        &self.certificate
    }

    /// Issues a certificate for a host name.
    pub fn issue(&self, name: &str) -> Issued {
        self.key(name);
        run(&[
            "openssl",
            "req",
            "-new",
            "-key",
            &self.path(&format!("{name}.key")),
            "-out",
            &self.path(&format!("{name}.csr")),
            "-subj",
            &format!("/O=Starward test/CN={name}"),
        ]);
        std::fs::write(
            self.folder.join(format!("{name}.ext")),
            format!("subjectAltName=DNS:{name}\nkeyUsage=critical,digitalSignature\nextendedKeyUsage=serverAuth,clientAuth\n"),
        )
        .expect("extensions");
        run(&[
            "openssl",
            "x509",
            "-req",
            "-in",
            &self.path(&format!("{name}.csr")),
            "-CA",
            &self.path("root.pem"),
            "-CAkey",
            &self.path("root.key"),
            "-CAcreateserial",
            "-days",
            "10",
            "-extfile",
            &self.path(&format!("{name}.ext")),
            "-out",
            &self.path(&format!("{name}.pem")),
        ]);
        Issued {
            certificate: self.folder.join(format!("{name}.pem")),
            key: self.folder.join(format!("{name}.key")),
        }
    }

    fn key(&self, name: &str) {
        let out = self.path(&format!("{name}.key"));
        match self.key_type.split_once(':') {
            Some(("rsa", bits)) => run(&[
                "openssl",
                "genpkey",
                "-algorithm",
                "RSA",
                "-pkeyopt",
                &format!("rsa_keygen_bits:{bits}"),
                "-out",
                &out,
            ]),
            Some(("ec", curve)) => run(&[
                "openssl",
                "genpkey",
                "-algorithm",
                "EC",
                "-pkeyopt",
                &format!("ec_paramgen_curve:{curve}"),
                "-out",
                &out,
            ]),
            _ => panic!("unknown key type {}", self.key_type),
        };
    }

    fn path(&self, name: &str) -> String {
        self.folder.join(name).to_string_lossy().into_owned()
    }
}
