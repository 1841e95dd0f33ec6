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
use crate::status::{Client, Request, Server, Status, Watch};

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
                answers.push(Box::pin(answer(client, control, forwarding)));
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
        Ok(Request::Handover) => return hand_over(client, control, forwarding).await,
        Err(cause) => Err(cause),
    };
    if let Err(cause) = answered {
        debug!(%cause, "a client went away without its answer");
    }
    None
}

/// Lets go for a successor, and takes everything back if it does not succeed.
async fn hand_over(
    mut client: Client,
    control: &Control,
    forwarding: &RefCell<Forwarding>,
) -> Option<Result<End, RunError>> {
    if forwarding.borrow().workers().is_none() {
        // Whoever asks goes away in any case.
        let _ = client.send(b"another process takes over already\n").await;
        return None;
    }
    info!("another process takes over");
    forwarding.borrow_mut().release();
    if client.hand_over().await {
        return Some(Ok(End::Succeeded));
    }
    warn!("the other process did not take over; going on");
    match forwarding.borrow_mut().resume(control) {
        Ok(()) => None,
        Err(error) => Some(Err(error)),
    }
}
