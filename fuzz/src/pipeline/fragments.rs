//! Fragments of frames' packets, as a host or a router makes them.

use weirgate::wire::{checksum, ethernet, udp, vxlan};

use super::script::Script;
use super::world;

/// The fragments of the packet in a frame, or of the one in its VXLAN over IPv4, in some order, one perhaps
/// twice or missing. `None` where the packet is not fragmented.
pub(crate) fn cut(frame: &[u8], script: &mut Script<'_>) -> Option<Vec<Vec<u8>>> {
    let (link, ip) = ethernet::Header::parse(frame).ok()?;
    let id = script.byte();
    let mut fragments = if is_tunnelled(ip) {
        let inner_at = 20 + udp::HEADER_LEN + vxlan::HEADER_LEN + ethernet::HEADER_LEN;
        let (outer, inner) = ip.split_at_checked(inner_at)?;
        let fragments = fragments_of(inner, id, script)?;
        fragments
            .into_iter()
            .map(|fragment| [&frame[..link.len()], &around(outer, &fragment), &fragment].concat())
            .collect::<Vec<_>>()
    } else {
        let fragments = fragments_of(ip, id, script)?;
        fragments.into_iter().map(|fragment| [&frame[..link.len()], &fragment].concat()).collect()
    };
    match script.byte() {
        0..=63 => fragments.reverse(),
        64..=95 => fragments.push(fragments.first()?.clone()),
        96..=111 => drop(fragments.remove(0)),
        112..=127 => drop(fragments.pop()),
        _ => {}
    }
    Some(fragments)
}

fn is_tunnelled(ip: &[u8]) -> bool {
    ip.first() == Some(&0x45) && ip.get(9) == Some(&17) && ip.get(22..24) == Some(&world::VXLAN_PORT.to_be_bytes())
}

/// The outer headers around another inner packet; without a UDP checksum.
fn around(outer: &[u8], inner: &[u8]) -> Vec<u8> {
    let mut outer = outer.to_vec();
    let len = outer.len() + inner.len();
    outer[2..4].copy_from_slice(&(len as u16).to_be_bytes());
    outer[24..26].copy_from_slice(&((len - 20) as u16).to_be_bytes());
    outer[26..28].fill(0);
    seal(&mut outer[..20]);
    outer
}

fn seal(header: &mut [u8]) {
    header[10..12].fill(0);
    let sum = checksum::of(header);
    header[10..12].copy_from_slice(&sum);
}

/// Cuts a whole packet into two or three fragments.
fn fragments_of(ip: &[u8], id: u8, script: &mut Script<'_>) -> Option<Vec<Vec<u8>>> {
    let header = match ip.first()? >> 4 {
        4 if ip[0] == 0x45 && ip.get(6..8)? != [0x20, 0] => 20,
        6 if *ip.get(6)? != 44 => 40,
        _ => return None,
    };
    let data = ip.get(header..)?;
    let mut cuts = [script.short(), script.short()].map(|at| (usize::from(at) % (data.len() + 1)) & !7);
    cuts.sort_unstable();
    let edges = [0, cuts[0], cuts[1], data.len()];
    let ranges = edges.windows(2).filter(|pair| pair[0] < pair[1]);
    let fragment = |pair: &[usize]| {
        let (offset, more, data) = (pair[0] as u16, pair[1] < data.len(), &data[pair[0]..pair[1]]);
        let mut head = ip[..header].to_vec();
        if header == 20 {
            head[2..4].copy_from_slice(&((20 + data.len()) as u16).to_be_bytes());
            head[4..6].copy_from_slice(&[0, id]);
            head[6..8].copy_from_slice(&((offset / 8) | (u16::from(more) << 13)).to_be_bytes());
            seal(&mut head);
        } else {
            let upper = core::mem::replace(&mut head[6], 44);
            head[4..6].copy_from_slice(&((8 + data.len()) as u16).to_be_bytes());
            head.extend([upper, 0]);
            head.extend((offset | u16::from(more)).to_be_bytes());
            head.extend([0, 0, 0, id]);
        }
        [&head, data].concat()
    };
    let fragments: Vec<_> = ranges.map(fragment).collect();
    (!fragments.is_empty()).then_some(fragments)
}
