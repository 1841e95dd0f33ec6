//! The rules that span fields: overlaps, dependencies, duplicates.

mod members;
mod services;

use std::collections::BTreeMap;
use std::collections::hash_map::{Entry, HashMap};
use std::hash::Hash;
use std::net::IpAddr;

use ipnet::IpNet;

use super::problem::{Findings, Located, Place};
use super::sections::Sections;

/// Applies every rule.
pub(super) fn check(sections: &Sections<'_>, findings: &mut Findings<'_>) {
    let networks = members::networks(sections, findings);
    members::check(sections, &networks, findings);
    members::masquerade(sections, &networks, findings);
    uplink(sections, &networks, findings);
    services::check(sections, &networks, findings);
    selector(sections, findings);
}

fn uplink(sections: &Sections<'_>, networks: &Prefixes, findings: &mut Findings<'_>) {
    let Some(list) = &sections.uplink_addresses else { return };
    if list.written == 0 {
        let text = "the list is empty; leave the field out to use the interface's own addresses";
        findings.error(&list.place, text);
    }
    let mut seen = Unique::default();
    for address in &list.items {
        outside(networks, address, findings);
        if let Some(first) = seen.claim(address.value, &address.place) {
            findings.error(&address.place, format!("{} is also {first}; name each address once", address.value));
        }
    }
}

fn selector(sections: &Sections<'_>, findings: &mut Findings<'_>) {
    let Some(size) = &sections.table_size else { return };
    if !is_prime(size.value) {
        let near = (size.value..=655_373).find(|candidate| is_prime(*candidate)).unwrap_or(655_373);
        findings.error(&size.place, format!("{} is not a prime; use a prime such as {near}", size.value));
    }
}

fn is_prime(number: u64) -> bool {
    number > 1 && (2..).take_while(|factor| factor * factor <= number).all(|factor| !number.is_multiple_of(factor))
}

/// Reports an address inside the overlay's networks, where it would be a pod's.
fn outside(networks: &Prefixes, address: &Located<IpAddr>, findings: &mut Findings<'_>) {
    if let Some((network, path)) = networks.containing(address.value) {
        let text = format!("{} lies inside {path} ({network}); use an address outside the overlay", address.value);
        findings.error(&address.place, text);
    }
}

/// Values that may occur once, each with the path of its first occurrence.
struct Unique<T>(HashMap<T, String>);

impl<T> Default for Unique<T> {
    fn default() -> Self {
        Self(HashMap::new())
    }
}

impl<T: Eq + Hash> Unique<T> {
    /// The path of the first occurrence, if the value has occurred before.
    fn claim(&mut self, value: T, place: &Place) -> Option<String> {
        match self.0.entry(value) {
            Entry::Occupied(first) => Some(first.get().clone()),
            Entry::Vacant(free) => {
                free.insert(place.path.clone());
                None
            }
        }
    }
}

/// Prefixes that do not overlap, each with its path in the file.
#[derive(Default)]
struct Prefixes {
    taken: BTreeMap<IpAddr, (IpNet, String)>,
    /// Whether all prefixes of the file are here. If not, rules about missing ones do not apply.
    whole: bool,
}

impl Prefixes {
    /// Adds the prefix, or returns the one that it overlaps.
    fn claim(&mut self, prefix: IpNet, place: &Place) -> Result<(), (IpNet, String)> {
        // Prefixes overlap only by containing one another, so the adjacent ones in order suffice.
        let before = self.containing(prefix.network());
        let behind = self.taken.range(prefix.network()..).next().map(|(_, (inner, path))| (*inner, path.as_str()));
        let behind = behind.filter(|(inner, _)| prefix.contains(inner));
        match before.or(behind) {
            Some((other, path)) => Err((other, path.to_owned())),
            None => {
                self.taken.insert(prefix.network(), (prefix, place.path.clone()));
                Ok(())
            }
        }
    }

    /// The prefix that the address lies in.
    fn containing(&self, address: IpAddr) -> Option<(IpNet, &str)> {
        let (_, (prefix, path)) = self.taken.range(..=address).next_back()?;
        prefix.contains(&address).then_some((*prefix, path.as_str()))
    }
}
