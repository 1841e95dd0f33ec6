//! Status as aligned tables, for people.

use std::fmt::Write;

use weirgate::verdict::DropReason;

use super::fill::Fill;
use super::{COUNTERS, MasqueradeAddress, NextHop, PoolAddress, Port, Status, Traffic};

/// How many addresses of a list are shown unless everything is.
const LIST_SHOWN: usize = 2;

/// Rows under headings, each column as wide as its widest cell.
struct Table {
    rows: Vec<Vec<String>>,
    /// Columns of numbers, which are aligned to the right.
    right: Vec<bool>,
}

impl Table {
    /// `headings` of columns; one that begins with '>' is for numbers.
    fn new(headings: &[&str]) -> Self {
        let right = headings.iter().map(|heading| heading.starts_with('>')).collect();
        Self { rows: vec![headings.iter().map(|heading| heading.trim_start_matches('>').to_owned()).collect()], right }
    }

    fn row(&mut self, cells: Vec<String>) {
        self.rows.push(cells);
    }

    fn print(&self, out: &mut String) {
        let width = |column: usize| {
            self.rows.iter().filter_map(|row| row.get(column)).map(|cell| cell.chars().count()).max().unwrap_or(0)
        };
        let widths: Vec<usize> = (0..self.right.len()).map(width).collect();
        for row in &self.rows {
            let mut line = String::new();
            for ((cell, width), right) in row.iter().zip(&widths).zip(&self.right) {
                let _ = match right {
                    true => write!(line, "{cell:>width$}  "),
                    false => write!(line, "{cell:<width$}  "),
                };
            }
            out.push_str(line.trim_end());
            out.push('\n');
        }
        out.push('\n');
    }
}

/// Bytes with a binary prefix, to three digits or so.
fn bytes(count: u64) -> String {
    let mut value = count as f64;
    for unit in ["B", "KiB", "MiB", "GiB", "TiB"] {
        if value < 1000.0 || unit == "TiB" {
            return if unit == "B" { format!("{count} B") } else { format!("{value:.1} {unit}") };
        }
        value /= 1024.0;
    }
    unreachable!("the last unit takes every value")
}

/// Nanoseconds in the unit that suits them.
fn span(nanoseconds: u64) -> String {
    match nanoseconds {
        0..10_000 => format!("{nanoseconds} ns"),
        10_000..10_000_000 => format!("{:.1} µs", nanoseconds as f64 / 1e3),
        _ => format!("{:.1} ms", nanoseconds as f64 / 1e6),
    }
}

fn uptime(seconds: u64) -> String {
    let (days, hours, minutes) = (seconds / 86_400, seconds / 3600 % 24, seconds / 60 % 60);
    match (days, hours, minutes) {
        (0, 0, 0) => format!("{seconds} s"),
        (0, 0, _) => format!("{minutes} min {} s", seconds % 60),
        (0, ..) => format!("{hours} h {minutes} min"),
        _ => format!("{days} d {hours} h"),
    }
}

fn list(items: &[String], all: bool) -> String {
    if items.is_empty() {
        return "none".to_owned();
    }
    let shown = if all { items.len() } else { LIST_SHOWN.min(items.len()) };
    let rest = items.len() - shown;
    let list = items[..shown].join(", ");
    if rest == 0 { list } else { format!("{list} and {rest} more") }
}

fn traffic(traffic: Traffic) -> [String; 2] {
    [traffic.packets.to_string(), bytes(traffic.bytes)]
}

impl Status {
    /// The status in tables. With `all`, counters at zero and long lists are shown too.
    #[must_use]
    pub fn tables(&self, all: bool) -> String {
        let mut out = String::new();
        let _ = writeln!(
            out,
            "weirgate {}, up {}, {} worker{}, snapshot {} of {}, {} locked for frames\n",
            self.version,
            uptime(self.uptime_seconds),
            self.workers,
            if self.workers == 1 { "" } else { "s" },
            self.generation,
            bytes(self.snapshot_bytes as u64),
            bytes(self.ring_bytes as u64),
        );
        for warning in &self.warnings {
            let _ = writeln!(out, "WARNING  {warning}");
        }
        if !self.warnings.is_empty() {
            out.push('\n');
        }
        self.print_ports(&mut out);
        self.print_interrupts(&mut out);
        self.print_peers(&mut out);
        self.print_services(&mut out, all);
        self.print_flows(&mut out);
        self.print_flow_memory(&mut out);
        self.print_pool(&mut out);
        self.print_masquerade(&mut out);
        self.print_drops(&mut out, all);
        self.print_counters(&mut out, all);
        let times = &self.burst_times;
        let mut table = Table::new(&["BURST TIMES", ">COUNT", ">p50", ">p90", ">p99", ">p99.9", ">MAX"]);
        let spans = [times.p50_ns, times.p90_ns, times.p99_ns, times.p999_ns, times.max_ns].map(span);
        table.row([String::new(), times.count.to_string()].into_iter().chain(spans).collect());
        table.print(&mut out);
        out.truncate(out.trim_end().len());
        out.push('\n');
        out
    }

    fn print_ports(&self, out: &mut String) {
        let mut table = Table::new(&[
            "PORT",
            "STATE",
            "XDP",
            "RINGS",
            ">QUEUES",
            ">MTU",
            "MAC",
            ">FRAMES IN",
            ">BYTES IN",
            ">FRAMES OUT",
            ">BYTES OUT",
        ]);
        for port in &self.ports {
            let mut row = vec![
                port.interface.clone(),
                port.state.clone(),
                port.mode.clone(),
                port.transfer.clone(),
                port.queues.to_string(),
                port.mtu.to_string(),
                port.mac.clone().unwrap_or_else(|| "none".to_owned()),
            ];
            row.extend(traffic(port.received));
            row.extend(traffic(port.transmitted));
            table.row(row);
        }
        table.print(out);
    }

    fn print_interrupts(&self, out: &mut String) {
        let mut table = Table::new(&["INTERRUPTS", "DEFERRED", "WHY"]);
        for Port { interface, interrupts, .. } in &self.ports {
            let deferred = match interrupts.deferred {
                true => format!("up to {}", span(interrupts.wait_max_ns)),
                false => "no".to_owned(),
            };
            table.row(vec![interface.clone(), deferred, interrupts.reason.clone()]);
        }
        table.print(out);
    }

    fn print_peers(&self, out: &mut String) {
        let mut table = Table::new(&["PEER SUBNET", "PUBLIC ADDRESS", "BACKEND", "NEXT HOP", "THROUGH", "MAC"]);
        for peer in &self.peers {
            let [address, interface, mac] = match &peer.next_hop {
                Some(NextHop { interface, address, mac }) => {
                    [address.to_string(), interface.clone(), mac.clone().unwrap_or_else(|| "unresolved".to_owned())]
                }
                None => ["no route".to_owned(), "none".to_owned(), "unresolved".to_owned()],
            };
            let row = vec![peer.subnet.clone(), peer.public.to_string(), peer.backend.clone(), address, interface, mac];
            table.row(row);
        }
        table.print(out);
    }

    fn print_services(&self, out: &mut String, all: bool) {
        let mut table = Table::new(&[
            "SERVICE",
            "PROTOCOL",
            "FRONTENDS",
            "BACKENDS",
            ">FLOWS",
            ">PACKETS IN",
            ">BYTES IN",
            ">PACKETS OUT",
            ">BYTES OUT",
        ]);
        for service in &self.services {
            let mut row = vec![
                service.name.clone(),
                service.protocol.clone(),
                list(&service.frontends, all),
                list(&service.backends, all),
                service.flows_created.to_string(),
            ];
            row.extend(traffic(service.original));
            row.extend(traffic(service.reply));
            table.row(row);
        }
        table.print(out);
    }

    fn print_flows(&self, out: &mut String) {
        let mut table = Table::new(&["FLOW TABLE", ">WORKER", ">USED", ">HALF-OPEN", ">CAPACITY", ">FILL"]);
        for flows in &self.flows {
            let numbers = [flows.worker, flows.used, flows.half_open, flows.capacity];
            let mut row = vec![flows.family.clone()];
            row.extend(numbers.iter().map(ToString::to_string));
            row.push(format!("{} %", Fill::new(flows.used.into(), flows.capacity.into()).percent()));
            table.row(row);
        }
        table.print(out);
    }

    fn print_pool(&self, out: &mut String) {
        let mut table = Table::new(&["POOL ADDRESS", ">FLOWS", ">CAPACITY", ">FILL"]);
        for PoolAddress { address, flows, capacity } in &self.pool {
            let fill = format!("{} %", Fill::new(*flows, *capacity).percent());
            table.row(vec![address.to_string(), flows.to_string(), capacity.to_string(), fill]);
        }
        table.print(out);
    }

    fn print_masquerade(&self, out: &mut String) {
        if self.masquerade.is_empty() {
            return;
        }
        let mut table = Table::new(&["MASQUERADE ADDRESS", ">FLOWS", ">BUSIEST", ">CAPACITY", ">FILL"]);
        for MasqueradeAddress { address, flows, busiest, capacity } in &self.masquerade {
            let fill = format!("{} %", Fill::new(*busiest, *capacity).percent());
            table.row(vec![address.to_string(), flows.to_string(), busiest.to_string(), capacity.to_string(), fill]);
        }
        table.print(out);
    }

    fn print_flow_memory(&self, out: &mut String) {
        let mut table = Table::new(&["FLOW MEMORY", ">SIZE", "LOCKED", ">ADOPTED", ">DAMAGED", ">STRAYED", "FILE"]);
        for memory in &self.flow_memory {
            let file = memory.file.as_ref().map_or_else(|| "none".to_owned(), |file| file.display().to_string());
            let locked = if memory.locked { "yes" } else { "no" };
            table.row(vec![
                memory.pages.clone(),
                bytes(memory.bytes as u64),
                locked.to_owned(),
                memory.adopted.to_string(),
                memory.damaged.to_string(),
                memory.strayed.to_string(),
                file,
            ]);
        }
        table.print(out);
    }

    fn print_drops(&self, out: &mut String, all: bool) {
        let mut table = Table::new(&["DROPPED", ">FRAMES", "WHY"]);
        for reason in DropReason::ALL {
            let count = self.drops.get(reason.name()).copied().unwrap_or(0);
            if count > 0 || all {
                table.row(vec![reason.name().to_owned(), count.to_string(), reason.description().to_owned()]);
            }
        }
        if table.rows.len() == 1 {
            out.push_str("DROPPED  nothing\n\n");
        } else {
            table.print(out);
        }
    }

    fn print_counters(&self, out: &mut String, all: bool) {
        let mut table = Table::new(&["COUNTER", ">VALUE", "WHAT IT COUNTS"]);
        for counter in COUNTERS {
            let value = self.counters.get(counter.name).copied().unwrap_or(0);
            if value > 0 || all {
                table.row(vec![counter.name.to_owned(), value.to_string(), counter.meaning.to_owned()]);
            }
        }
        if table.rows.len() > 1 {
            table.print(out);
        }
    }
}
