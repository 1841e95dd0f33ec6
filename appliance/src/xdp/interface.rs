//! An interface and its XDP program, as the kernel reports them over rtnetlink (`rtnetlink(7)`).

use std::convert::Infallible;
use std::fs;
use std::io;
use std::os::fd::{AsRawFd, BorrowedFd};
use std::path::PathBuf;

use netlink_packet_core::{
    NLM_F_ACK, NLM_F_DUMP, NLM_F_REQUEST, NetlinkDeserializable, NetlinkHeader, NetlinkMessage, NetlinkPayload,
    NlasIterator,
};
use netlink_packet_route::RouteNetlinkMessage;
use netlink_packet_route::link::{LinkAttribute, LinkMessage, LinkXdp};
use netlink_sys::{Socket, SocketAddr, protocols::NETLINK_ROUTE};

use tracing::warn;
use weirgate::net::Mac;

use super::sys;

/// How an XDP program is attached.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Mode {
    /// In the driver, before the kernel processes the frame.
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
    /// The interface's link address, if it has one of six octets.
    pub address: Option<Mac>,
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
    /// How many receive queues the device was created with, at least 1; not all need be in use.
    pub queues_made: u32,
}

impl Interface {
    /// The interface's directory in sysfs, if sysfs shows this network namespace. If it does not,
    /// the name may be that of another interface.
    pub(crate) fn directory(&self) -> Option<PathBuf> {
        let directory = PathBuf::from(format!("/sys/class/net/{}", self.name));
        let read = |file| fs::read_to_string(directory.join(file)).ok();
        let index = read("ifindex")?.trim().parse::<u32>().ok()?;
        let address = Mac::parse(read("address")?.trim());
        (index == self.index && address == self.address).then_some(directory)
    }

    /// How many receive queues are in use. For drivers that do not report it (`macvlan`, `bond`) sysfs lists them;
    /// where that shows another network namespace, as many as the device was created with.
    #[must_use]
    pub fn queues(&self) -> u32 {
        let told = sys::receive_queues(&self.name).ok().filter(|&count| count > 0);
        told.or_else(|| self.listed_queues()).unwrap_or(self.queues_made)
    }

    fn listed_queues(&self) -> Option<u32> {
        let entries = fs::read_dir(self.directory()?.join("queues")).ok()?;
        let is_receiving = |entry: &fs::DirEntry| entry.file_name().as_encoded_bytes().starts_with(b"rx-");
        let count = entries.flatten().filter(is_receiving).count();
        u32::try_from(count).ok().filter(|&count| count > 0)
    }

    /// Warns of changes to frames that the device makes and the gateway cannot see.
    pub(crate) fn warn_of_offloads(&self) {
        let Self { name, is_veth, .. } = self;
        if *is_veth && self.offloads_checksums() {
            warn!(
                interface = name,
                "transmit checksum offload is on; frames between veth devices then carry unfinished checksums, which the gateway would pass on as they are: switch it off on both ends with `ethtool -K {name} tx off`"
            );
        }
        // A veth pair has it on from the start, and tagged frames hardly ever.
        if !is_veth && self.hides_vlan_tags() {
            warn!(
                interface = name,
                "the device takes VLAN tags off before the gateway sees a frame, which then passes for untagged: where clients or peers are in VLANs, switch it off with `ethtool -K {name} rxvlan off`"
            );
        }
    }

    /// Whether TCP and UDP checksums of transmitted frames are left to the device.
    #[must_use]
    pub fn offloads_checksums(&self) -> bool {
        sys::transmit_checksum_offload(&self.name).unwrap_or(false)
    }

    /// Whether VLAN tags are stripped from received frames, so that no XDP program sees them.
    #[must_use]
    pub fn hides_vlan_tags(&self) -> bool {
        sys::receive_vlan_offload(&self.name).unwrap_or(false)
    }
}

/// All interfaces of this network namespace.
///
/// # Errors
/// The kernel's answer, where it gives no list.
pub fn list() -> io::Result<Vec<Interface>> {
    let mut found = Vec::new();
    request(RouteNetlinkMessage::GetLink(LinkMessage::default()), NLM_F_DUMP, |link| found.extend(describe(&link)))?;
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

/// The payload of an answer about a link. Only the needed attributes are read, so that no
/// attribute of a newer kernel can disturb.
struct Answer(Vec<u8>);

impl NetlinkDeserializable for Answer {
    type Error = Infallible;

    fn deserialize(_: &NetlinkHeader, payload: &[u8]) -> Result<Self, Infallible> {
        Ok(Self(payload.to_vec()))
    }
}

/// `struct ifinfomsg` of linux/rtnetlink.h, and the attributes of linux/if_link.h.
fn describe(Answer(payload): &Answer) -> Option<Interface> {
    const ARPHRD_ETHER: u16 = 1;
    const IFLA_ADDRESS: u16 = 1;
    const IFLA_IFNAME: u16 = 3;
    const IFLA_MTU: u16 = 4;
    const IFLA_LINKINFO: u16 = 18;
    const IFLA_INFO_KIND: u16 = 1;
    const IFLA_NUM_RX_QUEUES: u16 = 32;
    const IFLA_XDP: u16 = 43;
    const IFLA_XDP_DRV_PROG_ID: u16 = 5;
    const IFLA_XDP_SKB_PROG_ID: u16 = 6;
    const IFLA_XDP_HW_PROG_ID: u16 = 7;

    let (&[_, _, k0, k1, i0, i1, i2, i3, ..], attributes) = payload.split_first_chunk::<16>()?;
    let mut interface = Interface {
        name: String::new(),
        index: u32::from_ne_bytes([i0, i1, i2, i3]),
        address: None,
        mtu: 0,
        is_ethernet: u16::from_ne_bytes([k0, k1]) == ARPHRD_ETHER,
        is_veth: false,
        programs: Vec::new(),
        is_offloaded: false,
        queues_made: 1,
    };
    for attribute in NlasIterator::new(attributes).map_while(Result::ok) {
        match attribute.kind() {
            IFLA_ADDRESS => interface.address = attribute.value().try_into().map(Mac).ok(),
            IFLA_IFNAME => interface.name = text(attribute.value()),
            IFLA_MTU => interface.mtu = number(attribute.value())?,
            IFLA_NUM_RX_QUEUES => interface.queues_made = number(attribute.value())?.max(1),
            IFLA_LINKINFO => {
                for entry in NlasIterator::new(attribute.value()).map_while(Result::ok) {
                    interface.is_veth |= entry.kind() == IFLA_INFO_KIND && text(entry.value()) == "veth";
                }
            }
            IFLA_XDP => {
                for entry in NlasIterator::new(attribute.value()).map_while(Result::ok) {
                    match entry.kind() {
                        IFLA_XDP_DRV_PROG_ID => interface.programs.push((Mode::Native, number(entry.value())?)),
                        IFLA_XDP_SKB_PROG_ID => interface.programs.push((Mode::Generic, number(entry.value())?)),
                        IFLA_XDP_HW_PROG_ID => interface.is_offloaded = true,
                        _ => {}
                    }
                }
            }
            _ => {}
        }
    }
    Some(interface)
}

fn text(value: &[u8]) -> String {
    String::from_utf8_lossy(value).trim_end_matches('\0').into()
}

fn number(value: &[u8]) -> Option<u32> {
    value.try_into().map(u32::from_ne_bytes).ok()
}

/// Sends one request and passes every answer to `each`, until the acknowledgement.
fn request(message: RouteNetlinkMessage, flags: u16, mut each: impl FnMut(Answer)) -> io::Result<()> {
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
            let message = NetlinkMessage::<Answer>::deserialize(rest).map_err(io::Error::other)?;
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_loopback_interface_is_there_and_not_ethernet() {
        let loopback = find("lo").unwrap().unwrap();
        assert_eq!((loopback.is_ethernet, loopback.is_veth, loopback.programs.len()), (false, false, 0));
        assert_eq!(loopback.address, Some(Mac::ZERO));
        assert!(loopback.index > 0 && loopback.mtu > 0);
        assert!(find("nonesuch").unwrap().is_none());
    }

    #[test]
    fn a_program_is_found_under_the_mode_in_which_it_is_attached() {
        let mut payload = vec![0, 0, 1, 0, 7, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0];
        payload.extend([9, 0, 3, 0, b'u', b'p', b'0', b'1', 0, 0, 0, 0]); // IFLA_IFNAME, padded
        payload.extend([8, 0, 4, 0, 0xdc, 5, 0, 0]); // IFLA_MTU
        payload.extend([12, 0, 43, 0x80, 8, 0, 6, 0, 42, 0, 0, 0]); // IFLA_XDP: IFLA_XDP_SKB_PROG_ID
        let found = describe(&Answer(payload)).unwrap();
        assert_eq!((found.name.as_str(), found.index, found.mtu), ("up01", 7, 1500));
        assert_eq!(found.programs, [(Mode::Generic, 42)]);
        assert!(found.is_ethernet);
    }

    proptest::proptest! {
        #[test]
        fn noise_is_no_interface_to_panic_about(payload in proptest::collection::vec(0_u8.., 0..200)) {
            let _ = describe(&Answer(payload));
        }
    }
}
