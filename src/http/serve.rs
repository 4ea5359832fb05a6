//! Listeners: bound first, served later, so that a port that is taken ends Outpost before it does anything.

use std::io;
use std::net::{SocketAddr, TcpListener};
use std::path::{Path, PathBuf};
use std::time::Duration;

use axum::Router;
use axum_server::Handle;
use axum_server::tls_rustls::RustlsConfig;
use hyper_util::rt::TokioTimer;
use tokio_util::sync::CancellationToken;

use crate::config::read_file;

/// A bound port.
#[derive(Debug)]
pub struct Listener {
    socket: TcpListener,
    tls: Option<Tls>,
}

/// A certificate and its key, read anew when they change.
#[derive(Clone, Debug)]
pub struct Tls {
    cert: PathBuf,
    key: PathBuf,
    config: RustlsConfig,
}

impl Tls {
    /// Reads the files.
    ///
    /// # Errors
    /// A sentence that names them.
    pub async fn read(cert: PathBuf, key: PathBuf) -> Result<Self, String> {
        let fail =
            |error: io::Error| format!("http.tls_cert {} and http.tls_key {}: {error}", cert.display(), key.display());
        let [cert_pem, key_pem] = read_both(&cert, &key).await.map_err(fail)?;
        let config = RustlsConfig::from_pem(cert_pem, key_pem).await.map_err(fail)?;
        Ok(Self { cert, key, config })
    }

    /// Reads the files anew.
    ///
    /// # Errors
    /// What is wrong with them; the ones before stay in force.
    pub async fn reload(&self) -> io::Result<()> {
        let [cert, key] = read_both(&self.cert, &self.key).await?;
        self.config.reload_from_pem(cert, key).await
    }
}

async fn read_both(cert: &Path, key: &Path) -> io::Result<[Vec<u8>; 2]> {
    let (cert, key) = (cert.to_owned(), key.to_owned());
    let read = move || Ok([read_file(&cert)?, read_file(&key)?]);
    tokio::task::spawn_blocking(read).await.map_err(io::Error::other)?
}

impl Listener {
    /// Binds a port.
    ///
    /// # Errors
    /// A sentence that names the address.
    pub fn bind(address: SocketAddr, tls: Option<Tls>) -> Result<Self, String> {
        let socket = TcpListener::bind(address).and_then(|socket| {
            socket.set_nonblocking(true)?;
            Ok(socket)
        });
        let socket = socket.map_err(|error| format!("cannot listen on {address}: {error}"))?;
        Ok(Self { socket, tls })
    }

    /// The address that was bound: of interest with port 0.
    ///
    /// # Errors
    /// The system does not know.
    pub fn address(&self) -> io::Result<SocketAddr> {
        self.socket.local_addr()
    }

    /// Serves HTTP/1.1, which hubs speak (finding out which version a silent client means would have no time-out), until `shutdown`, then lets requests in flight end within `grace`. A client has `patience` for the head of
    /// a request.
    ///
    /// # Errors
    /// The listener failed.
    pub async fn serve(
        self,
        router: Router,
        shutdown: CancellationToken,
        patience: Duration,
        grace: Duration,
    ) -> io::Result<()> {
        let handle = Handle::new();
        let (stopping, ended) = (handle.clone(), handle.clone());
        let stop = async move {
            shutdown.cancelled().await;
            stopping.graceful_shutdown(Some(grace));
            std::future::pending::<io::Result<()>>().await
        };
        let service = router.into_make_service();
        let serve = async {
            match self.tls {
                None => {
                    let mut server = axum_server::from_tcp(self.socket)?.handle(handle).http1_only();
                    server.http_builder().http1().timer(TokioTimer::new()).header_read_timeout(patience);
                    server.serve(service).await
                }
                Some(tls) => {
                    let mut server = axum_server::from_tcp_rustls(self.socket, tls.config)?.handle(handle).http1_only();
                    server.http_builder().http1().timer(TokioTimer::new()).header_read_timeout(patience);
                    server.serve(service).await
                }
            }
        };
        let result = tokio::select! {
            result = serve => result,
            result = stop => result,
        };
        // A connection that came in the last moment may have been overlooked: it must not be answered by what has ended.
        ended.shutdown();
        result
    }
}
