//! The control loop against a real kernel, in a network namespace of the test's own, with a data
//! path that only records what it gets. Needs root.

use std::cell::RefCell;
use std::net::IpAddr;
use std::process::Command;
use std::time::{Duration, Instant};

use async_io::{Timer, block_on};
use futures_lite::future;
use weirgate::net::PortId;
use weirgate_appliance::config::check;
use weirgate_appliance::control::compile::SteerTable;
use weirgate_appliance::control::follow::{Control, DataPath};
use weirgate_appliance::control::netlink::Kernel;

use crate::namespace::{Network, ip};

const CONFIG: &str = r#"
[uplink]
interface = "up0"
[underlay]
interface = "un0"
[overlay]
networks = ["10.77.0.0/16"]
subnets = ["10.77.200.0/24"]
public_ip = "10.99.0.50"
vtep_mac = "0a:58:0a:4d:c8:00"
[[peer]]
subnets = ["10.77.74.0/24"]
public_ip = "10.99.0.11"
vtep_mac = "96:b5:c3:d1:0b:f4"
[[service]]
name = "web"
protocol = "tcp"
node_port = 30080
backends = ["10.77.74.10:80"]
"#;

#[derive(Default)]
struct Notes {
    steered: Vec<SteerTable>,
    /// How many tables will be refused.
    refusals: usize,
    unresolved: Vec<(PortId, IpAddr)>,
}

impl DataPath for Notes {
    fn steer(&mut self, table: &SteerTable) -> Result<(), String> {
        if let Some(rest) = self.refusals.checked_sub(1) {
            self.refusals = rest;
            return Err("the kernel is in no mood for it".to_owned());
        }
        self.steered.push(table.clone());
        Ok(())
    }

    fn unresolved(&mut self) -> Option<(PortId, IpAddr)> {
        self.unresolved.pop()
    }

    fn failure(&self) -> Option<String> {
        None
    }
}

fn with_control(test: impl AsyncFnOnce(&Control, &RefCell<Notes>)) {
    for (port, far, number) in [("up0", "up1", 1), ("un0", "un1", 2)] {
        ip(&format!("link add {port} address 02:00:00:00:0{number}:01 type veth peer name {far}"));
        ip(&format!("link set {far} up"));
        ip(&format!("link set {port} up"));
    }
    ip("address add 192.0.2.1/24 dev up0");
    ip("address add 10.99.0.50/24 dev un0");
    let config = check("test", CONFIG).expect("the configuration is right").config;
    let (conversation, mut kernel) = Kernel::open().expect("netlink opens");
    let mut conversation = Box::pin(conversation);
    let control =
        block_on(future::or(async { Control::new(config, 1, &mut kernel).await.map_err(|e| e.to_string()) }, async {
            (&mut conversation).await;
            Err("the conversation ended".to_owned())
        }))
        .expect("the control side begins");
    let notes = RefCell::new(Notes::default());
    block_on(future::or(test(&control, &notes), async {
        panic!("the control loop ended: {}", control.run(conversation, kernel, &notes).await);
    }));
}

async fn until(what: &str, wanted: impl Fn() -> bool) {
    let deadline = Instant::now() + Duration::from_secs(5);
    while !wanted() {
        assert!(Instant::now() < deadline, "{what} did not come about");
        Timer::after(Duration::from_millis(5)).await;
    }
}

fn generation(control: &Control) -> u32 {
    control.published.load().view().generation()
}

#[test]
fn what_the_kernel_learns_is_published_and_a_storm_is_gathered() {
    let _network = Network::new();
    with_control(async |control, _| {
        assert_eq!(generation(control), 1);
        ip("neighbour replace 10.99.0.11 lladdr 02:00:00:00:00:0b dev un0 nud permanent");
        until("a snapshot with the peer's link address", || generation(control) == 2).await;
        assert!(control.state.borrow().world.peers()[0].next_hop.is_some());

        // The kernel reports the same again: nothing to publish.
        ip("neighbour replace 10.99.0.11 lladdr 02:00:00:00:00:0b dev un0 nud permanent");
        Timer::after(Duration::from_millis(200)).await;
        assert_eq!(generation(control), 2);

        let began = Instant::now();
        let storm = "i=0; while [ $i -lt 2000 ]; do echo neighbour replace 192.0.2.$((i % 250 + 2)) lladdr \
                     02:00:00:00:$((i / 250 + 10)):01 dev up0 nud permanent; i=$((i + 1)); done | ip -batch -";
        let child = RefCell::new(Command::new("sh").args(["-c", storm]).spawn().expect("sh starts"));
        let ended = || child.borrow_mut().try_wait().expect("the child can be waited for").is_some();
        until("the end of the storm", ended).await;
        let last = "192.0.2.251".parse().expect("an address");
        let learnt = || control.state.borrow().model.neighbour(PortId(0), last).mac().map(|mac| mac.0[4]) == Some(0x17);
        until("the last of 2000 neighbours", learnt).await;
        Timer::after(Duration::from_millis(200)).await;
        let snapshots = generation(control) - 2;
        let most = began.elapsed().as_millis().div_ceil(50) as u32;
        assert!((1..=most).contains(&snapshots), "{snapshots} snapshots, {most} allowed");
    });
}

#[test]
fn steering_follows_the_uplink_s_addresses() {
    let _network = Network::new();
    with_control(async |control, notes| {
        let listens = |address: &str| {
            let address: IpAddr = address.parse().expect("an address");
            notes.borrow().steered.last().is_some_and(|table| table.frontends.iter().any(|(at, ..)| *at == address))
        };
        assert!(notes.borrow().steered.is_empty(), "the first table is the caller's to fill");
        ip("address add 192.0.2.77/24 dev up0");
        until("a frontend at the new address", || listens("192.0.2.77")).await;
        assert!(listens("192.0.2.1"));
        ip("address del 192.0.2.77/24 dev up0");
        until("no frontend there", || !listens("192.0.2.77")).await;
        // What the kernel refused is tried again, though nothing else changes.
        notes.borrow_mut().refusals = 2;
        ip("address add 192.0.2.78/24 dev up0");
        until("a frontend after two refusals", || listens("192.0.2.78")).await;
        let tables = notes.borrow().steered.len();
        ip("neighbour replace 10.99.0.11 lladdr 02:00:00:00:00:0b dev un0 nud permanent");
        let before = generation(control);
        until("a snapshot", || generation(control) > before).await;
        assert_eq!(notes.borrow().steered.len(), tables, "a neighbour changes nothing for steering");
    });
}

#[test]
fn peers_and_what_workers_miss_are_asked_for() {
    let _network = Network::new();
    with_control(async |_, notes| {
        let asked = |address: &str| {
            let listed = Command::new("ip").args(["neighbour", "show", address]).output().expect("ip starts");
            !listed.stdout.is_empty()
        };
        until("a question for the peer", || asked("10.99.0.11")).await;
        assert!(!asked("192.0.2.99"));
        notes.borrow_mut().unresolved.push((PortId(0), "192.0.2.99".parse().expect("an address")));
        until("a question for the client", || asked("192.0.2.99")).await;
    });
}
