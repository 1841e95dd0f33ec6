//! Answering the control socket's clients.

use std::cell::RefCell;
use std::future::poll_fn;
use std::pin::Pin;
use std::task::Poll;
use std::time::{Duration, Instant};

use async_io::Timer;
use tracing::{debug, info, warn};

use super::forwarding::Forwarding;
use super::{End, listing};
use crate::control::follow::Control;
use crate::status::{Client, Request, Server, SocketError, Status, Successor, Watch};

/// How often the fill of tables and pools is checked.
const WATCH: Duration = Duration::from_secs(5);
/// How often it is decided whether interrupts are to be deferred.
const INTERRUPTS: Duration = Duration::from_secs(1);
/// How many clients are answered at once; more are sent away.
const CLIENTS_MAX: usize = 32;
/// How long to wait before trying again to take back queues and tables: the first time, and at most.
const RETRY: Duration = Duration::from_millis(100);
const RETRY_MAX: Duration = Duration::from_secs(5);

type Answer<'a> = Pin<Box<dyn Future<Output = Option<End>> + 'a>>;

/// Answers all clients, at the same time, until a successor has taken over.
pub(super) async fn serve(server: &Server, control: &Control, forwarding: &RefCell<Forwarding>) -> End {
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

/// Logs warnings about tables and pools that are nearly full; ends only when dropped.
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

/// Updates whether the ports' interrupts are deferred; ends only when dropped.
pub(super) async fn see_to_interrupts<T>(forwarding: &RefCell<Forwarding>) -> T {
    loop {
        Timer::after(INTERRUPTS).await;
        forwarding.borrow_mut().see_to_interrupts();
    }
}

/// Answers one client; returns how the gateway ends, if it does.
async fn answer(
    mut client: Client,
    server: &Server,
    control: &Control,
    forwarding: &RefCell<Forwarding>,
) -> Option<End> {
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
/// The kernel decides who has the queues and the tables: only one process at a time can have each. So trying
/// to take them back does no harm where the successor has them; where it does not, it cannot get them any more.
/// Where the successor has gone and something else is in the way, this one tries until that is gone, or until
/// another gateway runs.
async fn hand_over(
    mut client: Client,
    server: &Server,
    control: &Control,
    forwarding: &RefCell<Forwarding>,
) -> Option<End> {
    // A client that is refused goes away in any case.
    let idle = forwarding.borrow().idle().map(ToOwned::to_owned);
    if let Some(reason) = idle {
        let _ = client.send(format!("{reason}\n").as_bytes()).await;
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
    let mut pause = RETRY;
    while successor != Successor::Forwards {
        // Nobody else answers for this gateway any more.
        let announced = if successor == Successor::Gone { server.announce_again() } else { Ok(()) };
        let resumed = match announced {
            Err(SocketError::Live(_)) => break,
            // It ends first, so that there are never three.
            Err(error @ SocketError::Starting(_)) => Err(error.into()),
            _ => forwarding.borrow_mut().resume(control),
        };
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
            Err(error) => {
                warn!(%error, "the other process did not take over, and this one cannot go on yet; it tries again");
                Timer::after(pause).await;
                pause = (2 * pause).min(RETRY_MAX);
            }
        }
    }
    Some(End::Succeeded)
}
