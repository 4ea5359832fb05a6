//! The tunnel itself.

use std::convert::Infallible;
use std::sync::Arc;
use std::time::{Duration, Instant};

use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{Notify, Semaphore};
use tokio_util::task::TaskTracker;

use super::files::Uses;
use super::{Agent, Settings, Status};
use crate::dial::{Backoff, Place, Reach, Session, Target};
use crate::model::host_and_port;

/// How often it is looked whether the tunnel is still used.
const LOOK: Duration = Duration::from_millis(200);

/// The most connections at once.
const CONNECTIONS: usize = 1000;

impl Agent {
    /// Waits until nobody uses the tunnel any more, and gives the count, locked. Wakes `used_more` when somebody else begins
    /// to. A count that cannot be read ends nothing.
    pub(super) async fn unused(&self, used_more: &Notify) -> Uses<'_> {
        let (mut before, mut readable) = (u64::MAX, true);
        loop {
            match self.files.unused() {
                Ok(Ok(uses)) => return uses,
                Ok(Err(count)) => {
                    if count > before {
                        used_more.notify_one();
                    }
                    (before, readable) = (count, true);
                }
                Err(trouble) => {
                    if std::mem::replace(&mut readable, false) {
                        tracing::warn!(trouble, "it cannot be seen whether the tunnel is used; it stays");
                    }
                }
            }
            tokio::time::sleep(LOOK).await;
        }
    }
}

/// Connects again and again; `say` is told how it is.
pub(super) async fn keep(settings: &Settings, used_more: &Notify, say: impl Fn(Status)) -> Infallible {
    let tracker = TaskTracker::new();
    let mut backoff = Backoff::default();
    let mut listener = None;
    loop {
        let trouble = match attempt(settings, &tracker, &mut listener).await {
            Ok(session) => {
                let since = Instant::now();
                tracing::info!(to = settings.to, "the tunnel is there");
                say(Status::Up);
                serve(settings, Arc::new(session), &tracker, listener.as_ref()).await;
                backoff.connected(since);
                format!("the connection to {} ended", settings.to)
            }
            Err(trouble) => trouble,
        };
        if backoff.is_news(&trouble) {
            tracing::warn!(trouble, "the tunnel is not there; trying again");
        }
        say(Status::Down(trouble));
        tokio::select! {
            () = tokio::time::sleep(backoff.pause()) => {}
            () = used_more.notified() => {}
        }
    }
}

/// A session with all that is listened for.
async fn attempt(
    settings: &Settings,
    tracker: &TaskTracker,
    listener: &mut Option<TcpListener>,
) -> Result<Session, String> {
    if let (Some(listen), None) = (settings.listen, &listener) {
        let bound = TcpListener::bind(listen).await;
        *listener = Some(bound.map_err(|error| format!("this machine cannot listen on {listen}: {error}"))?);
    }
    let session = Session::connect(&settings.login(), tracker).await?;
    for reverse in &settings.reverse {
        let place = Place::parse(&reverse.listen).ok_or("reverse: listen: has to be host:port or a path")?;
        let target = Target { address: reverse.to.clone(), reach: Reach::Named };
        if !session.listen(&place, target).await? {
            session.close().await;
            return Err(format!("{} refuses to listen at {place}: it is in use, or not allowed", settings.to));
        }
    }
    Ok(session)
}

/// Leads what comes in, until the connection ends. What comes in while there is none waits to be accepted.
async fn serve(settings: &Settings, session: Arc<Session>, tracker: &TaskTracker, listener: Option<&TcpListener>) {
    let places = Arc::new(Semaphore::new(CONNECTIONS));
    let accepting = async {
        let (Some(listener), Some(to)) = (listener, settings.forward_to.as_deref()) else {
            return std::future::pending().await;
        };
        loop {
            let Ok(place) = places.clone().acquire_owned().await else { return };
            match listener.accept().await {
                Ok((stream, _)) => {
                    let (session, to) = (session.clone(), to.to_owned());
                    tracker.spawn(async move {
                        lead(&session, stream, &to).await;
                        drop(place);
                    });
                }
                Err(error) => {
                    tracing::warn!(error = %error, "a connection could not be accepted");
                    tokio::time::sleep(LOOK).await;
                }
            }
        }
    };
    tokio::select! {
        () = accepting => {}
        () = session.ended() => {}
    }
}

async fn lead(session: &Session, stream: TcpStream, to: &str) {
    let _ = stream.set_nodelay(true);
    let Some((host, port)) = host_and_port(to) else { return };
    if let Err(error) = session.lead(stream, host, port).await {
        tracing::warn!(to, error, "a connection could not be led through the tunnel");
    }
}
