//! Answering those who ask over the control socket.

use std::cell::RefCell;
use std::future::poll_fn;
use std::pin::Pin;
use std::task::Poll;
use std::time::{Duration, Instant};

use async_io::Timer;
use tracing::{debug, info, warn};

use super::forwarding::Forwarding;
use super::{End, RunError, listing};
use crate::control::follow::Control;
use crate::status::{Client, Request, Server, Status, Successor, Watch};

/// How often the fill of tables and pools is looked at.
const WATCH: Duration = Duration::from_secs(5);
/// How many clients are answered at once; more are sent away.
const CLIENTS_MAX: usize = 32;

type Answer<'a> = Pin<Box<dyn Future<Output = Option<Result<End, RunError>>> + 'a>>;

/// Answers whoever connects, all at once, until a successor has taken over.
///
/// # Errors
/// What keeps the gateway from going on after a takeover that failed.
pub(super) async fn serve(
    server: &Server,
    control: &Control,
    forwarding: &RefCell<Forwarding>,
) -> Result<End, RunError> {
    let mut answers: Vec<Answer<'_>> = Vec::with_capacity(CLIENTS_MAX);
    let mut accept = Box::pin(server.accept());
    poll_fn(|context| {
        while let Poll::Ready(client) = accept.as_mut().poll(context) {
            accept = Box::pin(server.accept());
            if answers.len() < CLIENTS_MAX {
                answers.push(Box::pin(answer(client, server, control, forwarding)));
            } else {
                warn!(clients = CLIENTS_MAX, "a client of the control socket is sent away: too many ask at once");
            }
        }
        let mut end = None;
        answers.retain_mut(|answer| match answer.as_mut().poll(context) {
            Poll::Pending => true,
            Poll::Ready(ended) => {
                end = ended.or(end.take());
                false
            }
        });
        end.map_or(Poll::Pending, Poll::Ready)
    })
    .await
}

/// Warns the log of tables and pools that are nearly full; ends only when dropped.
pub(super) async fn watch<T>(control: &Control, forwarding: &RefCell<Forwarding>) -> T {
    let mut watch = Watch::default();
    loop {
        Timer::after(WATCH).await;
        // Status without workers knows nothing of their tables.
        let status = Status::of(control, &forwarding.borrow());
        for warning in watch.due(Instant::now(), &status) {
            warn!("{warning}");
        }
    }
}

/// Answers one client; how the gateway ends, where it does.
async fn answer(
    mut client: Client,
    server: &Server,
    control: &Control,
    forwarding: &RefCell<Forwarding>,
) -> Option<Result<End, RunError>> {
    let answered = match client.request().await {
        Ok(Request::Status) => {
            let status = serde_json::to_vec(&Status::of(control, &forwarding.borrow()));
            client.send(&status.expect("status is plain data")).await
        }
        Ok(Request::Conns(filter)) => {
            let services = listing::services(control);
            listing::stream(&mut client, &filter, control.workers, &services, forwarding).await
        }
        Ok(Request::Handover) => return hand_over(client, server, control, forwarding).await,
        Err(cause) => Err(cause),
    };
    if let Err(cause) = answered {
        debug!(%cause, "a client went away without its answer");
    }
    None
}

/// Lets go for a successor, and takes everything back if it does not succeed.
///
/// The kernel decides who has the queues and the tables: no two processes can have one of either. So to try
/// to take them back does no harm where the successor has them, and where it has not, it will not get them.
async fn hand_over(
    mut client: Client,
    server: &Server,
    control: &Control,
    forwarding: &RefCell<Forwarding>,
) -> Option<Result<End, RunError>> {
    // Whoever asks and is refused goes away in any case.
    if forwarding.borrow().workers().is_none() {
        let _ = client.send(b"another process takes over already\n").await;
        return None;
    }
    if let Err(error) = server.keep() {
        warn!(%error, "not handed over");
        let _ = client.send(format!("{error}\n").as_bytes()).await;
        return None;
    }
    info!("another process takes over");
    forwarding.borrow_mut().release();
    let mut successor = client.released().await;
    while successor != Successor::Forwards {
        let resumed = forwarding.borrow_mut().resume(control);
        match resumed {
            Ok(()) => {
                warn!("the other process did not take over; going on");
                if let Err(error) = server.announce_again() {
                    warn!(%error, "nobody will find the control socket");
                }
                return None;
            }
            Err(error) if successor == Successor::Silent => {
                warn!(%error, "the other process has not said that it forwards; waiting, as this one cannot go on");
                successor = client.successor().await;
            }
            Err(error) => return Some(Err(error)),
        }
    }
    Some(Ok(End::Succeeded))
}
