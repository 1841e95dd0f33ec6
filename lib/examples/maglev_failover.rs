//! A backend fails, and hardly anybody else's connection moves: Maglev by itself.
//! `cargo run -p weirgate --example maglev_failover`

use std::error::Error;
use std::io::{self, Write};
use std::net::Ipv4Addr;

use weirgate::hash::HashKey;
use weirgate::maglev::{self, Member, TABLE_SIZE};

/// A seed that all gateways share, so that they choose alike.
const SEED: u64 = 7;

fn main() -> Result<(), Box<dyn Error>> {
    tell(&mut io::stdout())
}

pub(crate) fn tell(out: &mut impl Write) -> Result<(), Box<dyn Error>> {
    let backends: Vec<(Ipv4Addr, u32)> = (1..=5).map(|pod| (Ipv4Addr::new(10, 77, 4, pod), 1)).collect();
    let before = table(&backends)?;
    writeln!(out, "{TABLE_SIZE} slots, five backends of the same weight:")?;
    shares(out, &backends, &before)?;

    let failed = backends[2].0;
    let left: Vec<_> = backends.iter().copied().filter(|(address, _)| *address != failed).collect();
    let after = table(&left)?;
    writeln!(out, "\n{failed} fails:")?;
    shares(out, &left, &after)?;
    let moved = before.iter().zip(&after).filter(|(was, is)| was != is && **was != failed).count();
    let of_it = before.iter().filter(|was| **was == failed).count();
    let percent = 100.0 * moved as f64 / before.len() as f64;
    writeln!(out, "\nits {of_it} slots went to the others; of the others' slots, {moved} moved: {percent:.1} %")?;
    let naive = (0..1000_u64).filter(|hash| hash % 5 != 2 && hash % 5 != hash % 4).count();
    writeln!(out, "a hash modulo the number of backends would have moved {:.1} % of all", naive as f64 / 10.0)?;

    let back = table(&backends)?;
    writeln!(out, "it comes back, and the table is the one from before: {}", back == before)?;

    let weighted = [(backends[0].0, 1), (backends[1].0, 3), (backends[2].0, 0)];
    writeln!(out, "\nweights 1, 3 and 0 (which drains):")?;
    shares(out, &weighted, &table(&weighted)?)
}

/// Whom each slot leads to.
fn table(backends: &[(Ipv4Addr, u32)]) -> Result<Vec<Ipv4Addr>, maglev::FillError> {
    let key = HashKey::from_seed(SEED);
    let name = |address: &Ipv4Addr| address.to_ipv6_mapped().octets();
    let mut members: Vec<Member> =
        backends.iter().map(|(address, weight)| Member::new(&key, name(address), 80, *weight, TABLE_SIZE)).collect();
    let mut slots = vec![0; TABLE_SIZE as usize];
    maglev::fill(&mut members, &mut slots)?;
    Ok(slots.iter().map(|member| backends[usize::from(*member)].0).collect())
}

fn shares(out: &mut impl Write, backends: &[(Ipv4Addr, u32)], table: &[Ipv4Addr]) -> Result<(), Box<dyn Error>> {
    for (address, _) in backends {
        let slots = table.iter().filter(|owner| *owner == address).count();
        let percent = 100.0 * slots as f64 / table.len() as f64;
        writeln!(out, "  {address}  {slots:6} slots  {percent:5.2} %  {}", "#".repeat((percent / 2.0) as usize))?;
    }
    Ok(())
}
