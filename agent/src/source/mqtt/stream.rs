//! The connection: non-blocking, and known to the runtime only while we wait.
//!
//! A socket that stays registered wakes the reactor for every segment, which
//! costs more than the message. So reads and writes go straight to the socket,
//! and only [`Stream::ready`] registers it, for as long as it waits.

use std::io::{self, Read as _, Write as _};
use std::net::TcpStream;
use std::sync::Arc;

use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName};
use rustls::{ClientConfig, ClientConnection, RootCertStore, StreamOwned};
use tokio::io::Interest;

use super::config::{Config, Tls, split_address};
use crate::source::Error;

#[derive(Debug)]
pub(super) enum Stream {
    Plain(TcpStream),
    Tls(Box<StreamOwned<ClientConnection, TcpStream>>),
    /// A simulator's, without a socket.
    #[cfg(test)]
    Model(super::wire::Wire),
}

impl Stream {
    /// Connects; with TLS up to the end of the handshake.
    pub(super) async fn connect(config: &Config) -> Result<Self, Error> {
        let address = &config.address;
        #[cfg(test)]
        if let Some(dialled) = super::wire::dial() {
            let refused = |error| Error::because(format!("cannot connect to {address}"), error);
            return dialled.map(Self::Model).map_err(refused);
        }
        let stream = tokio::net::TcpStream::connect(address.as_str())
            .await
            .and_then(|stream| {
                // Acknowledgements are gathered here already.
                stream.set_nodelay(true)?;
                stream.into_std()
            })
            .map_err(|error| Error::because(format!("cannot connect to {address}"), error))?;
        let Some(tls) = &config.tls else { return Ok(Self::Plain(stream)) };
        let host = split_address(address).map_or(address.as_str(), |(host, _)| host);
        let name = tls.server_name.as_deref().unwrap_or(host);
        let name = ServerName::try_from(name.to_owned())
            .map_err(|error| Error::because(format!("`{name}` cannot be a TLS name"), error))?;
        // It reads files, maybe of a slow disk, and some hundred certificates.
        let tls = tls.clone();
        let client = tokio::task::spawn_blocking(move || client_config(&tls))
            .await
            .map_err(|error| Error::because("cannot set up TLS", error))??;
        let connection = ClientConnection::new(Arc::new(client), name)
            .map_err(|error| Error::because("cannot set up TLS", error))?;
        let mut stream = Self::Tls(Box::new(StreamOwned::new(connection, stream)));
        stream
            .handshake()
            .await
            .map_err(|error| Error::because(format!("cannot set up TLS with {address}"), error))?;
        Ok(stream)
    }

    async fn handshake(&mut self) -> io::Result<()> {
        loop {
            let Self::Tls(stream) = self else { return Ok(()) };
            if !stream.conn.is_handshaking() {
                return Ok(());
            }
            match stream.conn.complete_io(&mut stream.sock) {
                Ok(_) => {}
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                    self.ready(true, false).await?;
                }
                Err(error) => return Err(error),
            }
        }
    }

    /// Reads what is there; `None`: nothing is, now. 0 bytes: the peer closed.
    pub(super) fn read(&mut self, buffer: &mut [u8]) -> io::Result<Option<usize>> {
        loop {
            let result = match self {
                Self::Plain(stream) => stream.read(buffer),
                Self::Tls(stream) => stream.read(buffer),
                #[cfg(test)]
                Self::Model(wire) => super::wire::read(wire, buffer),
            };
            match result {
                Ok(count) => return Ok(Some(count)),
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => return Ok(None),
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(error),
            }
        }
    }

    /// Writes as much of `out` as the socket takes now, and removes it.
    pub(super) fn write(&mut self, out: &mut Vec<u8>) -> io::Result<()> {
        let mut written = 0;
        while let Some(rest) = out.get(written..).filter(|rest| !rest.is_empty()) {
            #[expect(clippy::disallowed_methods, reason = "what is left is written next time")]
            let result = match self {
                Self::Plain(stream) => stream.write(rest),
                Self::Tls(stream) => stream.write(rest),
                #[cfg(test)]
                Self::Model(wire) => super::wire::write(wire, rest),
            };
            match result {
                Ok(0) => return Err(io::ErrorKind::WriteZero.into()),
                Ok(count) => written += count,
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => break,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(error),
            }
        }
        out.drain(..written);
        match self {
            Self::Tls(stream) if stream.conn.wants_write() => match stream.flush() {
                Err(error) if error.kind() != io::ErrorKind::WouldBlock => Err(error),
                _ => Ok(()),
            },
            _ => Ok(()),
        }
    }

    /// Waits until there may be something to read (if `read`), or what did not
    /// fit before can be written (if `write`, or TLS holds records back).
    pub(super) async fn ready(&self, read: bool, write: bool) -> io::Result<()> {
        let (socket, held_back) = match self {
            Self::Plain(stream) => (stream, false),
            Self::Tls(stream) => (&stream.sock, stream.conn.wants_write()),
            #[cfg(test)]
            Self::Model(wire) => return super::wire::ready(wire, read, write).await,
        };
        let interest = match (read, write || held_back) {
            (true, false) => Interest::READABLE,
            (false, true) => Interest::WRITABLE,
            (true, true) => Interest::READABLE | Interest::WRITABLE,
            (false, false) => return std::future::pending().await,
        };
        // A second handle on the socket is registered here and taken out again
        // when it is dropped; the first look tells what is there already.
        tokio::net::TcpStream::from_std(socket.try_clone()?)?.ready(interest).await?;
        Ok(())
    }
}

fn client_config(tls: &Tls) -> Result<ClientConfig, Error> {
    let mut roots = RootCertStore::empty();
    if let Some(path) = &tls.ca {
        let what = || format!("cannot read the authorities in {}", path.display());
        let certificates = CertificateDer::pem_file_iter(path)
            .and_then(Iterator::collect::<Result<Vec<_>, _>>)
            .map_err(|error| Error::because(what(), error))?;
        if certificates.is_empty() {
            return Err(Error::new(format!("there is no certificate in {}", path.display())));
        }
        for certificate in certificates {
            roots.add(certificate).map_err(|error| Error::because(what(), error))?;
        }
    } else {
        // What the machine has and rustls cannot use is left out: one strange
        // certificate in the system's folder must not stop the source.
        roots.add_parsable_certificates(rustls_native_certs::load_native_certs().certs);
    }
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let builder = ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .map_err(|error| Error::because("cannot set up TLS", error))?
        .with_root_certificates(roots);
    let (Some(certificate), Some(key)) = (&tls.certificate, &tls.key) else {
        return Ok(builder.with_no_client_auth());
    };
    let chain = CertificateDer::pem_file_iter(certificate)
        .and_then(Iterator::collect::<Result<Vec<_>, _>>)
        .map_err(|error| {
            let what = format!("cannot read the certificate in {}", certificate.display());
            Error::because(what, error)
        })?;
    let private = PrivateKeyDer::from_pem_file(key).map_err(|error| {
        Error::because(format!("cannot read the key in {}", key.display()), error)
    })?;
    builder
        .with_client_auth_cert(chain, private)
        .map_err(|error| Error::because("certificate and key do not fit together", error))
}
