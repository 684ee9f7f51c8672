//! A certificate authority of a test run, and what it signs, as PEM files.

use std::path::{Path, PathBuf};

use rcgen::{BasicConstraints, CertificateParams, CertifiedIssuer, DnType, IsCa, KeyPair};

/// An authority with a certificate for servers on this machine and one for a
/// client. Another folder is another authority, which nobody else trusts.
#[derive(Debug)]
pub struct Certificates {
    pub ca: PathBuf,
    pub server: Pair,
    pub client: Pair,
    /// Kafka wants key and chain in one file.
    pub server_chain: PathBuf,
}

/// A certificate and its key.
#[derive(Debug)]
pub struct Pair {
    pub certificate: PathBuf,
    pub key: PathBuf,
}

impl Certificates {
    pub fn make(folder: &Path) -> Self {
        std::fs::create_dir_all(folder).expect("a folder for certificates can be made");
        let mut params = params("tidegate test authority", &[]);
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        let key = KeyPair::generate().expect("ring makes keys");
        let authority = CertifiedIssuer::self_signed(params, key).expect("it signs itself");
        let ca = folder.join("ca.pem");
        write(&ca, &authority.pem());

        let sign = |name: &str, hosts: &[&str]| {
            let key = KeyPair::generate().expect("ring makes keys");
            let signed = self::params(name, hosts).signed_by(&key, &authority).expect("it signs");
            let pair = Pair {
                certificate: folder.join(format!("{name}.pem")),
                key: folder.join(format!("{name}.key")),
            };
            write(&pair.certificate, &signed.pem());
            write(&pair.key, &key.serialize_pem());
            let chain = folder.join(format!("{name}.chain.pem"));
            write(&chain, &(key.serialize_pem() + &signed.pem() + &authority.pem()));
            (pair, chain)
        };
        let (server, server_chain) = sign("server", &["localhost", "127.0.0.1"]);
        let (client, _) = sign("edge", &[]);
        Self { ca, server, client, server_chain }
    }
}

fn params(name: &str, hosts: &[&str]) -> CertificateParams {
    let hosts: Vec<String> = hosts.iter().map(|host| (*host).to_owned()).collect();
    let mut params = CertificateParams::new(hosts).expect("host names are ASCII");
    params.distinguished_name.push(DnType::CommonName, name);
    params
}

fn write(path: &Path, pem: &str) {
    std::fs::write(path, pem).expect("the folder is writable");
}
