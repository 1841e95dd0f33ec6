//! Whatever comes in while the snapshots change: nothing is sent to a backend that its service does not have, but for
//! what may follow an open connection.

mod cluster;
mod rules;
mod run;

use std::cell::RefCell;

use proptest::prelude::*;
use proptest::test_runner::TestRunner;

use cluster::Change;
use run::{Run, Tally};

/// One step of a run. Numbers choose among what there is then.
#[derive(Clone, Debug)]
enum Step {
    /// Packets in one burst.
    Burst(Vec<Said>),
    /// A conversation begins: a request, its reply, and what finishes the handshake.
    Converse(Request),
    /// Another snapshot.
    Change(Vec<Change>),
    /// Another snapshot, in which a pod that has received something lately is a backend no more, or again, or has
    /// another weight or port.
    ChangeOf { received: usize, kind: u8 },
    /// A datagram to a service of UDP in two fragments; between them its backend changes as in [`Step::ChangeOf`].
    Between { request: Request, kind: u8 },
    /// Time passes, and flows age.
    Wait(u16),
    /// Another process takes the flows over, under the snapshot of the last one or one of the same generation.
    Restart(Vec<Change>),
}

/// One packet.
#[derive(Clone, Debug)]
enum Said {
    /// To a service.
    Request(Request),
    /// As one lately, with other contents.
    Again { sent: usize, what: u8 },
    /// From who has received something lately, to who had sent it.
    Reply { to: usize, what: u8 },
    /// From a pod to the outside.
    Outward { who: usize, what: u8 },
}

#[derive(Clone, Copy, Debug)]
struct Request {
    /// A client or a pod.
    who: usize,
    v6: bool,
    port: u16,
    service: usize,
    external: bool,
    what: u8,
}

fn request() -> impl Strategy<Value = Request> {
    let who = prop_oneof![3 => Just(0_usize), 1 => 1..run::REQUESTERS];
    let external = proptest::bool::weighted(0.2);
    (who, any::<bool>(), 0_u16..2, 0..cluster::SERVICES, external, any::<u8>())
        .prop_map(|(who, v6, port, service, external, what)| Request { who, v6, port, service, external, what })
}

fn said() -> impl Strategy<Value = Said> {
    prop_oneof![
        2 => request().prop_map(Said::Request),
        5 => (0_usize..8, any::<u8>()).prop_map(|(sent, what)| Said::Again { sent, what }),
        4 => (0_usize..6, any::<u8>()).prop_map(|(to, what)| Said::Reply { to, what }),
        1 => (0..run::REQUESTERS, any::<u8>()).prop_map(|(who, what)| Said::Outward { who, what }),
    ]
}

fn change() -> impl Strategy<Value = Change> {
    let (service, pod) = (0..cluster::SERVICES, 0..cluster::PODS);
    prop_oneof![
        6 => (service.clone(), pod.clone()).prop_map(|(service, pod)| Change::Backend(service, pod)),
        3 => (service.clone(), pod.clone()).prop_map(|(service, pod)| Change::Weight(service, pod)),
        2 => (service.clone(), pod).prop_map(|(service, pod)| Change::Port(service, pod)),
        2 => service.clone().prop_map(Change::Backends),
        1 => (service.clone(), 0_usize..4).prop_map(|(service, frontend)| Change::Frontend(service, frontend)),
        1 => service.clone().prop_map(Change::Service),
        1 => service.prop_map(Change::Preserve),
        1 => Just(Change::Frontends),
        1 => (0_usize..2).prop_map(Change::Node),
        1 => Just(Change::Nodes),
        2 => (0_usize..cluster::POOLS.len()).prop_map(Change::Pool),
        1 => (0_usize..cluster::MASQUERADES.len()).prop_map(Change::Masquerade),
        1 => Just(Change::Stateless),
    ]
}

fn step() -> impl Strategy<Value = Step> {
    let changes = || proptest::collection::vec(change(), 1..4);
    prop_oneof![
        8 => proptest::collection::vec(said(), 1..4).prop_map(Step::Burst),
        4 => request().prop_map(Step::Converse),
        2 => changes().prop_map(Step::Change),
        3 => (0_usize..6, 0_u8..3).prop_map(|(received, kind)| Step::ChangeOf { received, kind }),
        1 => (request(), 0_u8..3).prop_map(|(request, kind)| Step::Between { request, kind }),
        2 => prop_oneof![0_u16..2000, any::<u16>()].prop_map(Step::Wait),
        1 => changes().prop_map(Step::Restart),
    ]
}

#[test]
fn nothing_new_is_sent_to_a_backend_that_its_service_does_not_have() {
    let config = ProptestConfig { source_file: Some(file!()), ..ProptestConfig::with_cases(1500) };
    let tally = RefCell::new(Tally::default());
    let steps = proptest::collection::vec(step(), 1..60);
    let found = TestRunner::new(config).run(&steps, |steps| {
        let mut run = Run::new();
        steps.iter().for_each(|step| run.step(step));
        tally.borrow_mut().add(run.tally);
        Ok(())
    });
    found.unwrap_or_else(|failure| panic!("{failure}"));
    // What the rules are about has happened.
    let tally = tally.into_inner();
    assert!(tally.iter().all(|count| count > 10), "{tally:?}");
}
