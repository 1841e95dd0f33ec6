//! The kernel's links, routes and neighbours over rtnetlink: dumped at the start, followed as
//! they change; in the network namespace that the process runs in.

mod decode;
mod model;

use std::collections::{BTreeMap, BTreeSet};
use std::future::{self, Future};
use std::net::IpAddr;
use std::task::Poll;
use std::{fmt, io};

use futures_lite::{Stream, StreamExt, pin};
use rtnetlink::packet_core::NetlinkMessage;
use rtnetlink::packet_route::neighbour::{NeighbourFlags, NeighbourState};
use rtnetlink::packet_route::route::{RouteAddress, RouteAttribute, RouteMessage};
use rtnetlink::packet_route::{AddressFamily, RouteNetlinkMessage};
use rtnetlink::sys::{AsyncSocket, SmolSocket, SocketAddr};
use rtnetlink::{Handle, MulticastGroup};
use weirgate::net::PortId;

pub use model::{Effect, Event, Hop, KernelRoute, Link, Model, Neighbour, NoSuchPort, Port, Route};

/// The groups to follow. Rules are among them, since they decide which table a lookup uses.
const GROUPS: &[MulticastGroup] = &[
    MulticastGroup::Link,
    MulticastGroup::Neigh,
    MulticastGroup::Ipv4Ifaddr,
    MulticastGroup::Ipv6Ifaddr,
    MulticastGroup::Ipv4Route,
    MulticastGroup::Ipv6Route,
    MulticastGroup::Ipv4Rule,
    MulticastGroup::Ipv6Rule,
];

/// Room for messages that come faster than they are read. The kernel caps it at `net.core.rmem_max`.
const RECEIVE_BYTES: u32 = 1 << 20;

/// Messages read at once before the caller handles them.
const EVENTS_MAX: usize = 1024;

/// Why the kernel could not be asked.
#[derive(Debug)]
pub struct KernelError {
    /// What was being done.
    pub step: &'static str,
    /// The system's answer.
    pub cause: io::Error,
}

impl fmt::Display for KernelError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "cannot {} over netlink: {}", self.step, self.cause)
    }
}

impl std::error::Error for KernelError {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        Some(&self.cause)
    }
}

fn failed(step: &'static str) -> impl Fn(rtnetlink::Error) -> KernelError {
    move |error| {
        let cause = match error {
            rtnetlink::Error::NetlinkError(message) => message.to_io(),
            other => io::Error::other(other.to_string()),
        };
        KernelError { step, cause }
    }
}

type Messages = Box<dyn Stream<Item = (NetlinkMessage<RouteNetlinkMessage>, SocketAddr)> + Send + Unpin>;

/// A conversation with the kernel.
pub struct Kernel {
    handle: Handle,
    messages: Messages,
}

impl fmt::Debug for Kernel {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Kernel").finish_non_exhaustive()
    }
}

impl Kernel {
    /// Opens a conversation. The future beside it carries the messages: it has to be polled along
    /// with everything that is asked, and ends when the socket fails.
    ///
    /// # Errors
    /// [`KernelError`] where the system refuses the socket.
    pub fn open() -> Result<(impl Future<Output = ()>, Self), KernelError> {
        let failed = |cause| KernelError { step: "follow the kernel", cause };
        let (mut connection, handle, messages) =
            rtnetlink::new_multicast_connection_with_socket::<SmolSocket>(GROUPS).map_err(failed)?;
        let socket = connection.socket_mut().socket_mut();
        socket.set_rx_buf_sz(RECEIVE_BYTES).map_err(failed)?;
        Ok((connection, Self { handle, messages: Box::new(messages) }))
    }

    /// The next events from the kernel, at least one; `None` when the conversation is over.
    pub async fn next(&mut self) -> Option<Vec<Event>> {
        loop {
            let (first, _) = self.messages.next().await?;
            let mut events: Vec<Event> = decode::event(first).into_iter().collect();
            // Further events that are already here, without waiting for more.
            for _ in 1..EVENTS_MAX {
                let next = self.messages.next();
                pin!(next);
                match future::poll_fn(|context| Poll::Ready(next.as_mut().poll(context))).await {
                    Poll::Ready(Some((message, _))) => events.extend(decode::event(message)),
                    Poll::Ready(None) | Poll::Pending => break,
                }
            }
            if !events.is_empty() {
                return Some(events);
            }
        }
    }

    /// All links with their indices.
    ///
    /// # Errors
    /// The kernel's answer.
    pub async fn links(&self) -> Result<Vec<(u32, Link)>, KernelError> {
        let answers = collect(self.handle.link().get().execute(), "list links").await?;
        let events = answers.iter().filter_map(decode::link);
        Ok(events
            .filter_map(|event| match event {
                Event::Link { ifindex, link } => Some((ifindex, link)),
                _ => None,
            })
            .collect())
    }

    /// Links, addresses and neighbours as events; routes and next hops have their own queries.
    ///
    /// # Errors
    /// The kernel's answer.
    pub async fn state(&self) -> Result<Vec<Event>, KernelError> {
        let mut events: Vec<Event> =
            self.links().await?.into_iter().map(|(ifindex, link)| Event::Link { ifindex, link }).collect();
        let addresses = collect(self.handle.address().get().execute(), "list addresses").await?;
        events.extend(
            addresses.iter().filter_map(decode::address).map(|(ifindex, address)| Event::Address { ifindex, address }),
        );
        let neighbours = collect(self.handle.neighbours().get().execute(), "list neighbours").await?;
        events.extend(neighbours.iter().filter_map(|neighbour| decode::neighbour(neighbour, false)));
        Ok(events)
    }

    /// The main table's unicast routes of both families.
    ///
    /// # Errors
    /// The kernel's answer.
    pub async fn routes(&self) -> Result<Vec<KernelRoute>, KernelError> {
        let mut routes = Vec::new();
        for family in [AddressFamily::Inet, AddressFamily::Inet6] {
            let mut question = RouteMessage::default();
            question.header.address_family = family;
            let answers = collect(self.handle.route().get(question).execute(), "list routes").await?;
            routes.extend(answers.iter().filter_map(decode::route));
        }
        Ok(routes)
    }

    /// The next hops that the kernel would use for these addresses, as far as they lead through a port.
    /// `ports` has the ports' interfaces, in order.
    ///
    /// # Errors
    /// The kernel's answer, other than that there is no route.
    pub async fn next_hops(
        &self,
        ports: &[u32],
        destinations: &BTreeSet<IpAddr>,
    ) -> Result<BTreeMap<IpAddr, Hop>, KernelError> {
        let mut hops = BTreeMap::new();
        for destination in destinations {
            let mut question = RouteMessage::default();
            (question.header.address_family, question.header.destination_prefix_length) = match destination {
                IpAddr::V4(_) => (AddressFamily::Inet, 32),
                IpAddr::V6(_) => (AddressFamily::Inet6, 128),
            };
            question.attributes.push(RouteAttribute::Destination(RouteAddress::from(*destination)));
            // The kernel answers "unreachable" with an error; to the gateway that is a missing route.
            let Ok(answers) = collect(self.handle.route().get(question).execute(), "look up a route").await else {
                continue;
            };
            let Some((ifindex, via, mtu)) = answers.first().and_then(decode::hop) else { continue };
            let port = ports.iter().position(|port| *port == ifindex).and_then(|port| u8::try_from(port).ok());
            if let Some(port) = port {
                hops.insert(*destination, Hop { port: PortId(port), neighbour: via.unwrap_or(*destination), mtu });
            }
        }
        Ok(hops)
    }

    /// Has the kernel resolve, or confirm, a neighbour's link address, as if it had a packet for it
    /// (`NTF_USE`). The answer comes as an event.
    ///
    /// # Errors
    /// The kernel's answer.
    pub async fn resolve(&self, ifindex: u32, address: IpAddr) -> Result<(), KernelError> {
        let request = self.handle.neighbours().add(ifindex, address);
        let request = request.state(NeighbourState::None).flags(NeighbourFlags::Use).replace();
        request.execute().await.map_err(failed("resolve a neighbour"))
    }
}

async fn collect<T>(
    answers: impl Stream<Item = Result<T, rtnetlink::Error>>,
    step: &'static str,
) -> Result<Vec<T>, KernelError> {
    pin!(answers);
    let mut all = Vec::new();
    while let Some(answer) = answers.next().await {
        all.push(answer.map_err(failed(step))?);
    }
    Ok(all)
}
