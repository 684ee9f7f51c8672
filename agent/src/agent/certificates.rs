//! When the certificates end that the configuration names: told thirty days before,
//! while there is time to make new ones, and each day from then on.

use std::path::PathBuf;
use std::time::Duration;

use tokio::sync::watch;
use tokio_util::sync::CancellationToken;
use tracing::{error, warn};
use x509_parser::pem::Pem;

use crate::clock::Clock;
use crate::config::Config;
use crate::event::Timestamp;
use crate::source;
use crate::status::Certificate;

/// So long before its end a certificate is told.
const EARLY: Duration = Duration::from_hours(30 * 24);

/// Between two looks.
const NEXT: Duration = Duration::from_hours(24);

const DAY: i64 = 24 * 60 * 60;

/// The label of a certificate in a PEM file (RFC 7468, section 5.1).
const LABEL: &str = "CERTIFICATE";

/// A file of certificates.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Named {
    /// The section of the configuration that names it.
    by: String,
    file: PathBuf,
    of: Of,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Of {
    /// Those that sign the other side's: of use until the last one ends.
    Authorities,
    /// Our own and its chain: of use until the first one ends.
    Ours,
}

/// Where a file's use ends.
#[derive(Debug, PartialEq, Eq)]
struct End {
    /// Whose certificate it is.
    subject: String,
    /// Seconds since 1970.
    at: i64,
}

/// What is to be told of an end.
#[derive(Debug, PartialEq, Eq)]
enum Told {
    Over,
    Soon { days: i64 },
}

/// All that a configuration names.
pub(super) fn named(config: &Config) -> Vec<Named> {
    let kafka =
        config.kafka.tls.iter().map(|tls| ("kafka.tls".to_owned(), &tls.ca, &tls.certificate));
    let sources = config.sources.iter().filter_map(|source| match source {
        source::Config::Mqtt(mqtt) => {
            let tls = mqtt.tls.as_ref()?;
            Some((format!("tls of source {}", mqtt.name), &tls.ca, &tls.certificate))
        }
        source::Config::Sparkplug(host) => {
            let tls = host.tls.as_ref()?;
            Some((format!("tls of source {}", host.name), &tls.ca, &tls.certificate))
        }
        source::Config::Modbus(_) | source::Config::Serial(_) | source::Config::Sqlite(_) => None,
    });
    let files = kafka.chain(sources).flat_map(|(by, ca, certificate)| {
        [(ca, Of::Authorities), (certificate, Of::Ours)]
            .into_iter()
            .filter_map(move |(file, of)| Some(Named { by: by.clone(), file: file.clone()?, of }))
    });
    files.collect()
}

/// Looks now, each day, and where the configuration has changed, until `stop`. What is
/// found is told in the log where it is due, and shown to `found` in any case.
pub(super) async fn run(
    mut named: watch::Receiver<Vec<Named>>,
    found: watch::Sender<Vec<Certificate>>,
    clock: Clock,
    stop: CancellationToken,
) {
    let looks = async {
        loop {
            let files = named.borrow_and_update().clone();
            let now = clock.now();
            let look = move || files.iter().filter_map(|file| look(file, now)).collect();
            // What ends it is the end of the process.
            if let Ok(certificates) = tokio::task::spawn_blocking(look).await {
                found.send_replace(certificates);
            }
            if let Ok(Err(_)) = tokio::time::timeout(NEXT, named.changed()).await {
                return;
            }
        }
    };
    stop.run_until_cancelled(looks).await;
}

/// A file that cannot be read or holds no certificate is told by whoever connects
/// with it.
fn look(named: &Named, now: Timestamp) -> Option<Certificate> {
    let end = end(&std::fs::read(&named.file).ok()?, named.of)?;
    let Named { by, file, .. } = named;
    let (file, subject) = (file.display(), &end.subject);
    match told(end.at, now) {
        Some(Told::Over) => error!(
            by, %file, subject,
            "certificate has expired: replace the file, then systemctl reload tidegate"
        ),
        Some(Told::Soon { days }) => warn!(
            by, %file, subject, days,
            "certificate expires soon: replace the file, then systemctl reload tidegate"
        ),
        None => {}
    }
    Some(Certificate { by: by.clone(), file: file.to_string(), ends: end.at })
}

/// Where the use of a PEM file ends.
fn end(text: &[u8], of: Of) -> Option<End> {
    let blocks = Pem::iter_from_buffer(text).flatten().filter(|block| block.label == LABEL);
    let ends = blocks.filter_map(|block| {
        let certificate = block.parse_x509().ok()?;
        let at = certificate.validity().not_after.timestamp();
        Some(End { subject: certificate.subject().to_string(), at })
    });
    match of {
        Of::Authorities => ends.max_by_key(|end| end.at),
        Of::Ours => ends.min_by_key(|end| end.at),
    }
}

fn told(at: i64, now: Timestamp) -> Option<Told> {
    let left = at - now.0.div_euclid(1_000_000_000);
    let early = i64::try_from(EARLY.as_secs()).unwrap_or(i64::MAX);
    match left {
        ..=0 => Some(Told::Over),
        _ if left <= early => Some(Told::Soon { days: left / DAY }),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use rcgen::{CertificateParams, KeyPair, date_time_ymd};

    use super::*;

    /// 2026-11-27T00:00:00Z, in seconds.
    const TODAY: i64 = 1_795_737_600;

    fn on(day: i64) -> Timestamp {
        Timestamp((TODAY + day * DAY) * 1_000_000_000)
    }

    /// A certificate that ends so many days after [`TODAY`], on a date of its own.
    fn pem(name: &str, (year, month, day): (i32, u8, u8)) -> String {
        let mut params = CertificateParams::new(vec![name.to_owned()]).unwrap();
        params.distinguished_name.push(rcgen::DnType::CommonName, name);
        params.not_after = date_time_ymd(year, month, day);
        params.self_signed(&KeyPair::generate().unwrap()).unwrap().pem()
    }

    #[test]
    fn a_chain_ends_with_its_first_and_authorities_with_their_last_certificate() {
        let (soon, later) = (pem("soon", (2026, 12, 7)), pem("later", (2036, 1, 1)));
        let key = KeyPair::generate().unwrap().serialize_pem();
        let file = format!("what a file says before\n{later}{key}\n{soon}");
        let ours = end(file.as_bytes(), Of::Ours).unwrap();
        assert_eq!((ours.subject.as_str(), ours.at), ("CN=soon", TODAY + 10 * DAY));
        assert_eq!(end(file.as_bytes(), Of::Authorities).unwrap().subject, "CN=later");
    }

    #[test]
    fn a_file_without_a_certificate_has_no_end() {
        let cut = pem("cut", (2026, 12, 7)).replace("MII", "AAA");
        for text in ["", "no PEM", &KeyPair::generate().unwrap().serialize_pem(), &cut] {
            assert_eq!(end(text.as_bytes(), Of::Ours), None, "{text}");
        }
    }

    #[tokio::test]
    async fn what_is_named_is_looked_at_now_and_after_a_change() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("gw1.pem");
        std::fs::write(&file, pem("gw1", (2026, 12, 7))).unwrap();
        let ours = Named { by: "kafka.tls".to_owned(), file: file.clone(), of: Of::Ours };
        let missing = Named { file: folder.path().join("missing.pem"), ..ours.clone() };
        let (files, named) = watch::channel(vec![missing.clone(), ours.clone()]);
        let (found, mut seen) = watch::channel(Vec::new());
        let stop = CancellationToken::new();
        let gw1 = Certificate {
            by: ours.by.clone(),
            file: file.display().to_string(),
            ends: TODAY + 10 * DAY,
        };
        let told = async {
            assert_eq!(*seen.wait_for(|seen| !seen.is_empty()).await.unwrap(), [gw1]);
            files.send_replace(vec![missing]);
            seen.wait_for(Vec::is_empty).await.unwrap();
            stop.cancel();
        };
        tokio::join!(run(named, found, Clock::fixed(on(0)), stop.clone()), told);
    }

    #[test]
    fn an_end_is_told_thirty_days_before_and_when_it_is_there() {
        let at = TODAY + 40 * DAY;
        let told = |day| told(at, on(day));
        assert_eq!([told(0), told(9)], [None, None]);
        assert_eq!(told(10), Some(Told::Soon { days: 30 }));
        assert_eq!(told(39), Some(Told::Soon { days: 1 }));
        assert_eq!([told(40), told(400)], [Some(Told::Over), Some(Told::Over)]);
    }
}
