//! The bare forwarder, as a process of its own in the gateway's namespace: the same rings, the same
//! loop, and no gateway in it.

use std::error::Error;
use std::io::Read;

use weirgate::frame::Burst;
use weirgate::net::{PortId, Protocol};
use weirgate::time::Instant;
use weirgate::verdict::{DropReason, Verdict};
use weirgate_appliance::worker::{self, Bare, Forward, Lane, Plan, Poll};
use weirgate_appliance::xdp::layout::ADJUST;
use weirgate_appliance::xdp::{Attach, SteerTable, Steering};
use weirgate_world::{ECHO_NODE_PORT, GATEWAY_V4};

/// The variant.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Kind {
    /// Sends each frame unchanged. It lies [`ADJUST`] bytes from its required start, and is moved.
    Moved,
    /// Sends the same number of bytes from the descriptor's start, so that nothing is moved: the room in
    /// front of the frame and the frame but for its end. The output serves only for comparison.
    Unmoved,
}

/// Says `ready`, and forwards until standard input ends.
pub(crate) fn run(kind: Kind, core: usize) -> Result<(), Box<dyn Error>> {
    let plan = Plan { workers: Some(1), poll: Poll::Busy, first_core: core, ..Plan::default() };
    let mut steering = Steering::load(&["up0", "un0"])?;
    let frontends = vec![(GATEWAY_V4.parse()?, ECHO_NODE_PORT, Protocol::UDP)];
    steering.fill(&SteerTable { frontends, ..SteerTable::default() })?;
    let workers = worker::start(&plan, &mut steering, |_| {
        Ok(move |lane: &mut Lane| match kind {
            Kind::Moved => lane.run(&mut Bare { ports: 2, ..Bare::default() }),
            Kind::Unmoved => lane.run(&mut Unmoved),
        })
    })?;
    steering.attach(Attach::Best)?;
    println!("ready");
    std::io::stdin().read_to_end(&mut Vec::new())?;
    steering.detach();
    workers.stop();
    Ok(())
}

struct Unmoved;

impl Forward for Unmoved {
    fn process(&mut self, _now: Instant, burst: &mut Burst<'_, '_>) {
        for frame in burst.frames.iter_mut() {
            let length = frame.len();
            let decided = frame.grow_front(ADJUST) && frame.set_len(length);
            if let (true, Some((head, _))) = (decided, frame.bytes_mut().split_first_chunk_mut::<14>()) {
                // IEEE 802 local experiments: nothing else on this link has this type.
                *head = [2, 0, 0, 0, 0, 2, 2, 0, 0, 0, 0, 1, 0x88, 0xb5];
            }
            frame.decide(Verdict::Transmit(PortId(frame.port().0 ^ 1)));
        }
    }

    fn count_drop(&mut self, _reason: DropReason) {}
}
