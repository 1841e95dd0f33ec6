//! Which frames go to the kernel and which to the workers: the steering program and the worker loop in real network
//! namespaces, over veth. Needs root, and fails without it.

mod frames;
mod link;

use std::net::IpAddr;
use std::process::Command;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering::Relaxed};
use std::time::{Duration, Instant};

use frames::{Case, Receiver, cases};
use link::Link;
use weirgate::frame::{BURST_FRAMES_MAX, Burst};
use weirgate::net::{PortId, Protocol, WorkerId};
use weirgate::time::Instant as BootTime;
use weirgate::verdict::{DropReason, Verdict};
use weirgate_appliance::worker::{self, Bare, Forward, Lane, Plan, Poll, Workers};
use weirgate_appliance::xdp::{self, Attach, Mode, StartError, SteerTable, Steering};

/// A gateway that forwards what is steered to it from `g0` to `g1`.
struct Gateway {
    steering: Steering,
    workers: Workers,
}

const PLAN: Plan = Plan { workers: None, poll: Poll::Adaptive, first_core: 0, ring: 256, zero_copy: true };

fn table() -> SteerTable {
    let address = |text: &str| text.parse::<IpAddr>().unwrap();
    let networks = |of: &[&str]| of.iter().map(|text| text.parse().unwrap()).collect();
    SteerTable {
        frontends: vec![
            (address(frames::FRONTEND_V4), 80, Protocol::TCP),
            (address(frames::FRONTEND_V4), 53, Protocol::UDP),
            (address(frames::FRONTEND_V6), 80, Protocol::TCP),
            (address(frames::FRONTEND_V6), 53, Protocol::UDP),
            (address(frames::FRONTEND_V4), 38, Protocol::SCTP),
            (address(frames::FRONTEND_V6), 38, Protocol::SCTP),
            (address(frames::EXCLUSIVE_V4), 53, Protocol::UDP),
        ],
        exclusive: [frames::EXCLUSIVE_V4, frames::EXCLUSIVE_V6, frames::PINGED_V4, frames::PINGED_V6]
            .map(address)
            .into(),
        pinged: vec![address(frames::PINGED_V4), address(frames::PINGED_V6)],
        vteps: vec![(address(frames::VTEP), 8472)],
        subnets: networks(&["10.77.200.0/24", "fd77:0:0:200::/64"]),
        masqueraded: networks(&["10.77.4.0/24", "fd77:0:0:4::/64"]),
        exempt: networks(&["10.77.0.0/16", "fd77::/48", "10.1.0.1/32"]),
    }
}

fn bare(_: WorkerId) -> Result<impl FnOnce(&mut Lane) + Send + 'static, StartError> {
    Ok(|lane: &mut Lane| lane.run(&mut Bare { ports: 2, dropped: 0 }))
}

impl Gateway {
    fn start(attach: Attach) -> Result<Self, StartError> {
        let mut steering = Steering::load(&["g0", "g1"])?;
        steering.fill(&table())?;
        let workers = worker::start(&PLAN, &mut steering, bare)?;
        steering.attach(attach)?;
        Ok(Self { steering, workers })
    }

    fn stop(self) {
        self.steering.detach();
        self.workers.stop();
    }
}

/// Sends each frame, in order, and checks who gets it and that the kernel's are as they were sent.
fn check(link: &Link, cases: &[Case]) {
    let mut wrong = Vec::new();
    for case in cases {
        link.client.send(&case.frame);
        // A frame through the rings has its link addresses exchanged by the bare forwarder.
        let mut forwarded = case.frame.clone();
        forwarded[..12].rotate_left(6);
        // What is to come may take its time on a busy machine.
        let patience = if case.receiver == Receiver::Nobody { 250 } else { 3000 };
        let got = link.who_gets(&case.frame, &forwarded, case.receiver, Duration::from_millis(patience));
        if got != Some(case.receiver) {
            wrong.push(format!("{}: wanted {:?}, got {got:?}", case.name, case.receiver));
        }
    }
    assert!(wrong.is_empty(), "{wrong:#?}");
}

fn each_frame_goes_where_it_belongs(attach: Attach, mode: Mode) {
    let link = Link::new(1);
    let gateway = Gateway::start(attach).unwrap();
    assert_eq!(gateway.steering.modes(), [mode, mode]);
    check(&link, &cases());
    let stats = &gateway.workers.stats()[0];
    let counters = gateway.steering.counters();
    assert_eq!(counters.steered, stats.ports[0].received_frames.load(Relaxed), "{counters:?}");
    let either = cases().iter().filter(|case| case.receiver == Receiver::Both).count() as u64;
    assert_eq!((counters.early, counters.early_lost), (either, 0));
    assert_eq!((counters.no_worker, counters.no_headroom), (0, 0));
    gateway.stop();
    assert_eq!(link.programs(), 0);
}

#[test]
fn each_frame_goes_where_it_belongs_in_native_mode() {
    each_frame_goes_where_it_belongs(Attach::Best, Mode::Native);
}

#[test]
fn each_frame_goes_where_it_belongs_in_generic_mode() {
    each_frame_goes_where_it_belongs(Attach::Generic, Mode::Generic);
}

#[test]
fn the_hosts_own_ping_and_tcp_work_beside_the_gateway() {
    let link = Link::new(1);
    let gateway = Gateway::start(Attach::Best).unwrap();
    link.namespaces.shell("client", "ping -c 3 -i 0.2 -W 1 10.1.0.1");
    link.namespaces.shell("client", "ping -c 3 -i 0.2 -W 1 2001:db8:1::1");
    let listener = std::net::TcpListener::bind("10.1.0.1:22").unwrap();
    let server = "10.1.0.1:22".parse().unwrap();
    let connect = || std::net::TcpStream::connect_timeout(&server, Duration::from_secs(2)).map(drop);
    link.namespaces.inside("client", connect).unwrap();
    drop(listener);
    gateway.stop();
}

#[test]
fn without_a_worker_the_gateways_frames_are_dropped_and_the_rest_passes() {
    let link = Link::new(1);
    let Gateway { steering, workers } = Gateway::start(Attach::Best).unwrap();
    workers.stop();
    // The kernel takes closed sockets out of the map in its own time; until then it drops, uncounted.
    let probe = cases().into_iter().find(|case| case.receiver == Receiver::Ring).unwrap().frame;
    let begun = steering.counters().no_worker;
    let until = Instant::now() + Duration::from_secs(3);
    while steering.counters().no_worker == begun {
        assert!(Instant::now() < until, "the closed sockets stay in the map");
        link.client.send(&probe);
        std::thread::sleep(Duration::from_millis(20));
    }
    let before = steering.counters();
    let alone: Vec<_> = cases()
        .into_iter()
        .map(|case| match case.receiver {
            Receiver::Ring => Case { receiver: Receiver::Nobody, ..case },
            Receiver::Both => Case { receiver: Receiver::Kernel, ..case },
            _ => case,
        })
        .collect();
    check(&link, &alone);
    let ours = alone.iter().filter(|case| case.receiver == Receiver::Nobody).count() as u64;
    assert_eq!(steering.counters().no_worker - before.no_worker, ours);
    steering.detach();
}

#[test]
fn a_start_takes_over_what_a_killed_process_left() {
    let link = Link::new(1);
    let first = Gateway::start(Attach::Best).unwrap();
    // What remains of a process after `kill -9`: its sockets are closed, its program is not.
    let Gateway { steering, workers } = first;
    workers.stop();
    drop(steering);
    assert_eq!(link.programs(), 2);

    let second = Gateway::start(Attach::Best).unwrap();
    assert_eq!(link.programs(), 2);
    check(&link, &cases());
    second.stop();
    assert_eq!(link.programs(), 0);
}

#[test]
fn no_frame_reaches_the_kernel_while_one_gateway_replaces_another() {
    let link = Link::new(1);
    let first = Gateway::start(Attach::Best).unwrap();
    let service = cases().into_iter().find(|case| case.receiver == Receiver::Ring).unwrap().frame;
    /// Ends the sender, also when an expectation fails.
    struct Stop<'a>(&'a AtomicBool);
    impl Drop for Stop<'_> {
        fn drop(&mut self) {
            self.0.store(true, Relaxed);
        }
    }
    let (stop, sent) = (AtomicBool::new(false), AtomicUsize::new(0));
    let last = std::thread::scope(|scope| {
        // All the time, so that a gap of any length between the programs would be found.
        scope.spawn(|| {
            while !stop.load(Relaxed) {
                link.client.send(&service);
                sent.fetch_add(1, Relaxed);
                std::thread::sleep(Duration::from_micros(20));
            }
        });
        let _stop = Stop(&stop);
        let mut current = first;
        for swap in 0..5 {
            let before = sent.load(Relaxed);
            let Gateway { steering, workers } = current;
            workers.stop();
            current = Gateway::start(Attach::Best).unwrap();
            drop(steering);
            let during = sent.load(Relaxed) - before;
            assert!(during > 0, "no frame was sent while gateway {swap} was replaced");
        }
        current
    });
    assert_eq!(link.kernel_got(&service), 0, "of {} frames", sent.load(Relaxed));
    last.stop();
    // Without a program the kernel does get it, and is seen to.
    link.client.send(&service);
    assert_eq!(link.kernel_got(&service), 1);
}

#[test]
fn detach_removes_what_is_ours_and_says_so() {
    let link = Link::new(1);
    let Gateway { steering, workers } = Gateway::start(Attach::Generic).unwrap();
    workers.stop();
    drop(steering);
    let removed = xdp::detach(Some(&["g1".into()])).unwrap();
    assert_eq!(removed.iter().map(|removed| removed.interface.as_str()).collect::<Vec<_>>(), ["g1"]);
    assert_eq!(link.programs(), 1);
    let removed = xdp::detach(None).unwrap();
    assert_eq!(removed.iter().map(|removed| removed.interface.as_str()).collect::<Vec<_>>(), ["g0"]);
    assert_eq!(removed[0].mode, Mode::Generic);
    assert_eq!(link.programs(), 0);
    assert!(xdp::detach(None).unwrap().is_empty());
    assert!(matches!(xdp::detach(Some(&["nonesuch".into()])), Err(StartError::NoInterface { .. })));
}

#[test]
fn a_start_beside_a_foreign_program_is_refused_and_the_program_stays() {
    let link = Link::new(1);
    let object = link.foreign_program();
    link.namespaces.shell("gateway", &format!("ip link set g1 xdp obj {object} sec xdp"));
    let refusal = Gateway::start(Attach::Best).err().unwrap();
    assert!(matches!(&refusal, StartError::ForeignProgram { name, .. } if name == "g1"), "{refusal}");
    assert!(xdp::detach(None).unwrap().is_empty());
    assert_eq!(link.programs(), 1);
}

#[test]
fn a_start_on_an_occupied_queue_is_refused_and_disturbs_nobody() {
    let link = Link::new(1);
    let gateway = Gateway::start(Attach::Best).unwrap();
    let refusal = Gateway::start(Attach::Best).err().unwrap();
    assert!(matches!(&refusal, StartError::QueueOccupied { name, queue: 0 } if name == "g0"), "{refusal}");
    check(&link, &cases());
    gateway.stop();
}

#[test]
fn an_mtu_that_does_not_fit_is_refused() {
    let link = Link::new(1);
    link.namespaces.shell("gateway", "ip link set g1 mtu 9000");
    let refusal = Gateway::start(Attach::Best).err().unwrap();
    assert!(matches!(&refusal, StartError::MtuTooLarge { name, mtu: 9000, .. } if name == "g1"), "{refusal}");
    assert_eq!(link.programs(), 0);
    // The one it names fits.
    let StartError::MtuTooLarge { largest, .. } = refusal else { unreachable!() };
    link.namespaces.shell("gateway", &format!("ip link set g1 mtu {largest}"));
    Gateway::start(Attach::Generic).unwrap().stop();
}

#[test]
fn missing_interfaces_and_queues_are_refused() {
    let _link = Link::new(1);
    assert!(matches!(Steering::load(&["g0", "nonesuch"]), Err(StartError::NoInterface { .. })));
    assert!(matches!(Steering::load(&["g0", "g0"]), Err(StartError::Ports { .. })));
    assert!(matches!(Steering::load(&["lo"]), Err(StartError::NotEthernet { .. })));
    let mut steering = Steering::load(&["g0", "g1"]).unwrap();
    let refusal = worker::start(&Plan { workers: Some(2), ..PLAN }, &mut steering, bare).err().unwrap();
    assert!(matches!(refusal, StartError::Queues { queues: 1, workers: 2, .. }), "{refusal}");
}

#[test]
fn an_interface_that_vanishes_ends_no_worker() {
    let link = Link::new(1);
    let gateway = Gateway::start(Attach::Best).unwrap();
    link.namespaces.shell("gateway", "ip link del g1");
    let service = cases().into_iter().find(|case| case.receiver == Receiver::Ring).unwrap().frame;
    for _ in 0..1000 {
        link.client.send(&service);
    }
    std::thread::sleep(Duration::from_millis(300));
    assert!(gateway.workers.are_running());
    // And it sleeps as before, rather than wake for the interface that is gone again and again.
    let sleeps = || gateway.workers.stats()[0].sleeps.load(Relaxed);
    let before = sleeps();
    std::thread::sleep(Duration::from_millis(500));
    assert!((1..50).contains(&(sleeps() - before)), "{} sleeps", sleeps() - before);
    gateway.stop();
    assert_eq!(link.programs(), 0);
}

#[test]
fn ports_that_go_down_and_up_again_forward_at_once_and_send_nothing_stale() {
    let link = Link::new(1);
    let gateway = Gateway::start(Attach::Best).unwrap();
    let workers = &gateway.workers;
    let ours: Vec<_> = cases().into_iter().filter(|case| case.receiver == Receiver::Ring).collect();
    check(&link, &ours);
    link.namespaces.shell("gateway", "ip link set g1 down");
    let received = || workers.stats()[0].ports[0].received_frames.load(Relaxed);
    let (before, sent) = (received(), u64::from(3 * PLAN.ring));
    let stale: Vec<_> = (0..sent as u16).map(|port| frames::udp_v4(10_000 + port, 53)).collect();
    for some in stale.chunks(32) {
        some.iter().for_each(|frame| link.client.send(frame));
        std::thread::sleep(Duration::from_millis(2));
    }
    until("the worker takes all frames", || received() - before == sent);
    link.namespaces.shell("gateway", "ip link set g1 up; ip link set g0 down; ip link set g0 up");
    // What waited in the ring comes before what is sent now.
    let mut first = udp_until_it_arrives(&link);
    first.retain(|frame| stale.iter().any(|stale| stale[12..] == frame[12..]));
    assert!(first.len() <= BURST_FRAMES_MAX, "{} frames came late", first.len());
    check(&link, &ours);
    gateway.stop();
}

/// Sends a datagram to a frontend until the server gets it; all that the server got.
fn udp_until_it_arrives(link: &Link) -> Vec<Vec<u8>> {
    let probe = frames::udp_v4(9_999, 53);
    let mut arrived = Vec::new();
    until("the ports forward again", || {
        link.client.send(&probe);
        arrived.extend(link.server.receive_all());
        arrived.iter().any(|frame| frame[12..] == probe[12..])
    });
    arrived
}

fn until(what: &str, mut done: impl FnMut() -> bool) {
    let limit = Instant::now() + Duration::from_secs(20);
    while !done() {
        assert!(Instant::now() < limit, "{what}: not within 20 seconds");
        std::thread::sleep(Duration::from_millis(5));
    }
}

#[test]
fn frames_too_large_for_the_rings_since_the_mtu_was_raised_are_counted() {
    for attach in [Attach::Best, Attach::Generic] {
        let link = Link::new(1);
        let gateway = Gateway::start(attach).unwrap();
        link.namespaces.shell("client", "ip link set c0 mtu 3000");
        link.namespaces.shell("gateway", "ip link set g0 mtu 3000");
        let mut large = frames::udp_v4(10_000, 53);
        large.resize(2800, 0);
        for _ in 0..10 {
            link.client.send(&large);
        }
        let dropped = &gateway.workers.stats()[0].receive_dropped;
        until("they are counted", || dropped.load(Relaxed) == 10);
        // And no others suffer.
        udp_until_it_arrives(&link);
        gateway.stop();
    }
}

/// Worker 0 hands every frame to worker 1, which processes it as configured.
struct HandOver(WorkerId, Verdict);

impl Forward for HandOver {
    fn process(&mut self, _: BootTime, burst: &mut Burst<'_, '_>) {
        for frame in burst.frames.iter_mut() {
            frame.decide(match self.0 {
                WorkerId(0) => Verdict::Handover(WorkerId(1)),
                _ => self.1,
            });
        }
    }

    fn count_drop(&mut self, reason: DropReason) {
        panic!("dropped: {}", reason.name());
    }
}

/// Two workers, of which the second decides.
fn start_handing_over(verdict: Verdict) -> Gateway {
    let mut steering = Steering::load(&["g0", "g1"]).unwrap();
    steering.fill(&table()).unwrap();
    let workers = worker::start(&PLAN, &mut steering, |_| {
        Ok(move |lane: &mut Lane| {
            let id = lane.id();
            lane.run(&mut HandOver(id, verdict));
        })
    })
    .unwrap();
    steering.attach(Attach::Best).unwrap();
    assert_eq!(workers.stats().len(), 2);
    Gateway { steering, workers }
}

#[test]
fn frames_cross_workers_and_their_chunks_return_to_their_worker() {
    let link = Link::new(2);
    let gateway = start_handing_over(Verdict::Transmit(PortId(1)));
    let workers = &gateway.workers;

    let sent: Vec<_> = (0..2000u16).map(|port| frames::udp_v4(10_000 + port, 53)).collect();
    let mut arrived = 0;
    for some in sent.chunks(50) {
        some.iter().for_each(|frame| link.client.send(frame));
        let until = Instant::now() + Duration::from_secs(1);
        let mut missing = some.len();
        while missing > 0 && Instant::now() < until {
            missing -= link.server.receive_all().iter().filter(|frame| some.contains(frame)).count();
            std::thread::sleep(Duration::from_micros(200));
        }
        arrived += some.len() - missing;
    }
    assert_eq!(arrived, sent.len());
    let handed: u64 = workers.stats().iter().map(|stats| stats.handed_over.load(Relaxed)).sum();
    let taken: u64 = workers.stats().iter().map(|stats| stats.taken_over.load(Relaxed)).sum();
    assert!(handed > 0, "no frame came in on queue 0");
    assert_eq!(handed, taken);
    // The gauges are renewed once a second, each by its worker, which a loaded machine may delay.
    std::thread::sleep(Duration::from_millis(1200));
    let held = || workers.stats().iter().map(|stats| stats.held.load(Relaxed)).sum::<u64>();
    until("all chunks are home", || held() == workers.chunks() as u64);
    let invalid: u64 = workers.stats().iter().map(|stats| stats.invalid.load(Relaxed)).sum();
    assert_eq!(invalid, 0);
    gateway.stop();
}

#[test]
fn chunks_of_frames_that_another_worker_dropped_return_to_their_worker() {
    let link = Link::new(2);
    let gateway = start_handing_over(Verdict::Drop(DropReason::NoFlow));
    let workers = &gateway.workers;
    for port in 0..2000_u16 {
        link.client.send(&frames::udp_v4(10_000 + port, 53));
        if port % 50 == 0 {
            std::thread::sleep(Duration::from_millis(2));
        }
    }
    until("hundreds of frames came in on queue 0", || workers.stats()[0].handed_over.load(Relaxed) > 500);
    std::thread::sleep(Duration::from_millis(1200));
    let is_home = |stats: &worker::Stats| stats.held.load(Relaxed) == workers.chunks() as u64 / 2;
    until("each worker holds its own chunks", || workers.stats().iter().all(is_home));
    gateway.stop();
}

#[test]
fn copies_of_early_fragments_reach_the_worker_whose_queue_they_came_on() {
    let link = Link::new(2);
    let mut steering = Steering::load(&["g0", "g1"]).unwrap();
    steering.fill(&table()).unwrap();
    let workers = worker::start(&PLAN, &mut steering, bare).unwrap();
    steering.attach(Attach::Best).unwrap();
    let fragments: Vec<_> = (100..200).map(frames::early_fragment_v4).collect();
    let mut arrived = 0;
    fragments.iter().for_each(|fragment| link.client.send(fragment));
    until("all copies arrive", || {
        let frames = link.server.receive_all();
        arrived += frames.iter().filter(|frame| fragments.iter().any(|fragment| fragment[12..] == frame[12..])).count();
        arrived == fragments.len()
    });
    let counters = steering.counters();
    assert_eq!((counters.early, counters.early_lost, counters.steered), (fragments.len() as u64, 0, 0));
    let (first, second) = (&workers.stats()[0], &workers.stats()[1]);
    // Worker 0 reads them all; those of the other queue are the other worker's.
    let handed = first.handed_over.load(Relaxed);
    assert!(handed > 0 && handed < fragments.len() as u64, "{handed} came in on queue 1");
    assert_eq!((second.taken_over.load(Relaxed), second.handed_over.load(Relaxed)), (handed, 0));
    steering.detach();
    workers.stop();
}

#[test]
fn one_worker_serves_all_queues_of_its_ports() {
    let link = Link::new(2);
    let mut steering = Steering::load(&["g0", "g1"]).unwrap();
    steering.fill(&table()).unwrap();
    let workers = worker::start(&Plan { workers: Some(1), ..PLAN }, &mut steering, bare).unwrap();
    steering.attach(Attach::Best).unwrap();
    let ours: Vec<_> = cases().into_iter().filter(|case| case.receiver == Receiver::Ring).collect();
    check(&link, &ours);
    assert_eq!(steering.counters().no_worker, 0);
    steering.detach();
    workers.stop();
}

/// The numbers of capabilities in linux/capability.h.
const CAP_NET_ADMIN: u32 = 12;
const CAP_IPC_LOCK: u32 = 14;

/// Whether the calling thread has a capability.
fn is_capable(capability: u32) -> bool {
    let status = std::fs::read_to_string("/proc/thread-self/status").unwrap();
    let effective = status.lines().find_map(|line| line.strip_prefix("CapEff:")).unwrap();
    u64::from_str_radix(effective.trim(), 16).unwrap() >> capability & 1 != 0
}

/// Runs one test of this file again, in the gateway's namespace, as the last thing that `prefix` does.
fn run_again(link: &Link, prefix: &[&str], test: &str) {
    let output = Command::new("ip")
        .args(["netns", "exec", &link.namespaces.name("gateway")])
        .args(prefix)
        .arg(std::env::current_exe().unwrap())
        .args(["--exact", test, "--nocapture"])
        .output()
        .unwrap();
    let text = String::from_utf8_lossy(&output.stdout);
    assert!(
        output.status.success() && text.contains("1 passed"),
        "{text}\n{}",
        String::from_utf8_lossy(&output.stderr)
    );
    assert_eq!(link.programs(), 0);
}

#[test]
fn too_little_locked_memory_is_refused_and_the_limit_named() {
    if is_capable(CAP_IPC_LOCK) {
        let lower = ["sh", "-c", "ulimit -l 64; exec \"$@\"", "sh"];
        let prefix = [&["setpriv", "--bounding-set=-ipc_lock", "--inh-caps=-ipc_lock"], &lower[..]].concat();
        return run_again(&Link::new(1), &prefix, "steering::too_little_locked_memory_is_refused_and_the_limit_named");
    }
    let refusal = Gateway::start(Attach::Best).err().unwrap();
    assert!(matches!(refusal, StartError::LockedMemory { .. }), "{refusal}");
    assert!(refusal.to_string().contains("ulimit -l"));
}

#[test]
fn an_unprivileged_start_names_the_privilege() {
    if is_capable(CAP_NET_ADMIN) {
        let prefix = ["setpriv", "--bounding-set=-all", "--inh-caps=-all"];
        return run_again(&Link::new(1), &prefix, "steering::an_unprivileged_start_names_the_privilege");
    }
    let refusal = Gateway::start(Attach::Best).err().unwrap();
    assert!(matches!(refusal, StartError::Privilege { .. }), "{refusal}");
    assert!(refusal.to_string().contains("root"));
}
