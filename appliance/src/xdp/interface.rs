//! What the kernel says of an interface, and its XDP program, over rtnetlink (`rtnetlink(7)`).

use std::io;
use std::os::fd::{AsRawFd, BorrowedFd};

use netlink_packet_core::{NLM_F_ACK, NLM_F_DUMP, NLM_F_REQUEST, NetlinkHeader, NetlinkMessage, NetlinkPayload};
use netlink_packet_route::RouteNetlinkMessage;
use netlink_packet_route::link::{InfoKind, LinkAttribute, LinkInfo, LinkLayerType, LinkMessage, LinkXdp};
use netlink_sys::{Socket, SocketAddr, protocols::NETLINK_ROUTE};

use super::sys;

/// How an XDP program is attached.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Mode {
    /// In the driver, before the kernel makes anything of the frame.
    Native,
    /// In the kernel's stack, for drivers that know no XDP. Slower.
    Generic,
}

impl Mode {
    /// `XDP_FLAGS_DRV_MODE` or `XDP_FLAGS_SKB_MODE` of linux/if_link.h.
    const fn flag(self) -> u32 {
        match self {
            Self::Native => 1 << 2,
            Self::Generic => 1 << 1,
        }
    }
}

/// `XDP_FLAGS_REPLACE` of linux/if_link.h: only if the expected program is the one attached.
const REPLACE: u32 = 1 << 4;
/// `XDP_FLAGS_UPDATE_IF_NOEXIST`: only if none is attached.
const IF_NONE: u32 = 1 << 0;

/// One interface as the kernel describes it.
#[derive(Clone, Debug)]
pub struct Interface {
    /// The interface's name.
    pub name: String,
    /// The interface's index.
    pub index: u32,
    /// The interface's MTU, in bytes after the Ethernet header.
    pub mtu: u32,
    /// Whether the link layer is Ethernet.
    pub is_ethernet: bool,
    /// Whether it is one end of a veth pair.
    pub is_veth: bool,
    /// The id of each XDP program attached, and how.
    pub programs: Vec<(Mode, u32)>,
    /// Whether a program is attached in the hardware.
    pub is_offloaded: bool,
}

impl Interface {
    /// How many receive queues are in use.
    #[must_use]
    pub fn queues(&self) -> u32 {
        sys::receive_queues(&self.name).unwrap_or(1).max(1)
    }

    /// Whether frames leave this interface with their TCP and UDP checksums left to the device.
    #[must_use]
    pub fn offloads_checksums(&self) -> bool {
        sys::transmit_checksum_offload(&self.name).unwrap_or(false)
    }
}

/// All interfaces of this network namespace.
///
/// # Errors
/// The kernel's answer, where it gives no list.
pub fn list() -> io::Result<Vec<Interface>> {
    let mut found = Vec::new();
    request(RouteNetlinkMessage::GetLink(LinkMessage::default()), NLM_F_DUMP, |message| {
        if let RouteNetlinkMessage::NewLink(link) = message {
            found.push(describe(&link));
        }
    })?;
    Ok(found)
}

/// The interface of this name, if there is one.
///
/// # Errors
/// The kernel's answer, where it gives no list.
pub fn find(name: &str) -> io::Result<Option<Interface>> {
    Ok(list()?.into_iter().find(|interface| interface.name == name))
}

/// Attaches `program`, atomically in place of `expected`, or where there is none.
pub(crate) fn attach(
    index: u32,
    mode: Mode,
    program: BorrowedFd<'_>,
    expected: Option<BorrowedFd<'_>>,
) -> io::Result<()> {
    set(index, mode, program.as_raw_fd(), expected)
}

/// Removes `expected` if it is the program attached.
pub(crate) fn detach(index: u32, mode: Mode, expected: BorrowedFd<'_>) -> io::Result<()> {
    set(index, mode, -1, Some(expected))
}

fn set(index: u32, mode: Mode, program: i32, expected: Option<BorrowedFd<'_>>) -> io::Result<()> {
    let mut attributes = vec![LinkXdp::Fd(program)];
    match expected {
        Some(old) => {
            attributes.push(LinkXdp::Flags(mode.flag() | REPLACE));
            attributes.push(LinkXdp::ExpectedFd(old.as_raw_fd().cast_unsigned()));
        }
        None => attributes.push(LinkXdp::Flags(mode.flag() | IF_NONE)),
    }
    let mut link = LinkMessage::default();
    link.header.index = index;
    link.attributes.push(LinkAttribute::Xdp(attributes));
    request(RouteNetlinkMessage::SetLink(link), NLM_F_ACK, |_| {})
}

fn describe(link: &LinkMessage) -> Interface {
    let mut interface = Interface {
        name: String::new(),
        index: link.header.index,
        mtu: 0,
        is_ethernet: link.header.link_layer_type == LinkLayerType::Ether,
        is_veth: false,
        programs: Vec::new(),
        is_offloaded: false,
    };
    for attribute in &link.attributes {
        match attribute {
            LinkAttribute::IfName(name) => interface.name.clone_from(name),
            LinkAttribute::Mtu(mtu) => interface.mtu = *mtu,
            LinkAttribute::LinkInfo(info) => {
                interface.is_veth = info.iter().any(|entry| matches!(entry, LinkInfo::Kind(InfoKind::Veth)));
            }
            LinkAttribute::Xdp(xdp) => {
                for entry in xdp {
                    match entry {
                        LinkXdp::DrvProgId(id) => interface.programs.push((Mode::Native, *id)),
                        LinkXdp::SkbProgId(id) => interface.programs.push((Mode::Generic, *id)),
                        LinkXdp::HwProgId(_) => interface.is_offloaded = true,
                        _ => {}
                    }
                }
            }
            _ => {}
        }
    }
    interface
}

/// Sends one request and hands every answer to `each`, until the acknowledgement.
fn request(message: RouteNetlinkMessage, flags: u16, mut each: impl FnMut(RouteNetlinkMessage)) -> io::Result<()> {
    let mut socket = Socket::new(NETLINK_ROUTE)?;
    socket.bind_auto()?;
    socket.connect(&SocketAddr::new(0, 0))?;

    let mut header = NetlinkHeader::default();
    header.flags = NLM_F_REQUEST | flags;
    header.sequence_number = 1;
    let mut packet = NetlinkMessage::new(header, NetlinkPayload::from(message));
    packet.finalize();
    let mut bytes = vec![0; packet.buffer_len()];
    packet.serialize(&mut bytes);
    socket.send(&bytes, 0)?;

    loop {
        let (answer, _) = socket.recv_from_full()?;
        let mut rest = answer.as_slice();
        while !rest.is_empty() {
            let message = NetlinkMessage::<RouteNetlinkMessage>::deserialize(rest).map_err(io::Error::other)?;
            let length = message.header.length as usize;
            match message.payload {
                NetlinkPayload::Error(error) if error.code.is_some() => return Err(error.to_io()),
                NetlinkPayload::Error(_) | NetlinkPayload::Done(_) => return Ok(()),
                NetlinkPayload::InnerMessage(message) => each(message),
                _ => {}
            }
            // Messages begin at multiples of four bytes.
            rest = rest.get(length.next_multiple_of(4).max(16)..).unwrap_or_default();
        }
    }
}
