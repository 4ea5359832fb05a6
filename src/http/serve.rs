//! Listeners: bound first, served later, so that a port that is taken ends Outpost before it does anything.

use std::io;
use std::net::{SocketAddr, TcpListener};
use std::path::PathBuf;
use std::time::Duration;

use axum::Router;
use axum_server::Handle;
use axum_server::tls_rustls::RustlsConfig;
use hyper_util::rt::TokioTimer;
use tokio_util::sync::CancellationToken;

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
        let config = RustlsConfig::from_pem_file(&cert, &key).await;
        let config = config
            .map_err(|error| format!("http.tls_cert {} and http.tls_key {}: {error}", cert.display(), key.display()))?;
        Ok(Self { cert, key, config })
    }

    /// Reads the files anew.
    ///
    /// # Errors
    /// What is wrong with them; the ones before stay in force.
    pub async fn reload(&self) -> io::Result<()> {
        self.config.reload_from_pem_file(&self.cert, &self.key).await
    }
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
