//! The bare forwarder, as a process of its own in the gateway's namespace: the gateway's rings and loop, and instead
//! of the gateway a router between the client and the first node that knows only three link addresses.

use std::error::Error;
use std::io::Read;

use weirgate::frame::Burst;
use weirgate::net::{Mac, PortId, Protocol};
use weirgate::time::Instant;
use weirgate::verdict::{DropReason, Verdict};
use weirgate_appliance::worker::{self, Forward, Lane, Plan, Poll};
use weirgate_appliance::xdp::{Attach, SteerTable, Steering};
use weirgate_world::{CLIENT_V4, NODES, POD_SUFFIXES};

use crate::server::{TCP_PORT, UDP_PORT};

/// Says `ready`, and forwards until standard input ends. `addresses` are the link addresses of the client, of the
/// node, and of the gateway on either side.
pub(crate) fn run(core: usize, addresses: &[String]) -> Result<(), Box<dyn Error>> {
    let mac = |text: &String| Mac::parse(text).ok_or("a link address is needed");
    let [client, node, uplink, underlay] = addresses else { return Err("four link addresses are needed".into()) };
    // By ingress port: the destination and source of the forwarded frame.
    let headers = [[mac(node)?, mac(underlay)?], [mac(client)?, mac(uplink)?]];
    let plan = Plan { workers: Some(1), poll: Poll::Busy, first_core: core, ..Plan::default() };
    let mut steering = Steering::load(&["up0", "un0"])?;
    let mut frontends = Vec::new();
    for pod in 0..POD_SUFFIXES.len() {
        let address = NODES[0].pod_v4(pod).parse()?;
        frontends.extend([(address, UDP_PORT, Protocol::UDP), (address, TCP_PORT, Protocol::TCP)]);
    }
    let subnets = vec![format!("{CLIENT_V4}/32").parse()?];
    steering.fill(&SteerTable { frontends, subnets, ..SteerTable::default() })?;
    let workers =
        worker::start(&plan, &mut steering, |_| Ok(move |lane: &mut Lane| lane.run(&mut Router { headers })))?;
    steering.attach(Attach::Best)?;
    println!("ready");
    std::io::stdin().read_to_end(&mut Vec::new())?;
    steering.detach();
    workers.stop();
    Ok(())
}

struct Router {
    headers: [[Mac; 2]; 2],
}

impl Forward for Router {
    fn process(&mut self, _now: Instant, burst: &mut Burst<'_, '_>) {
        for frame in burst.frames.iter_mut() {
            let port = frame.port().0;
            let [to, from] = self.headers[usize::from(port & 1)];
            if let Some((addresses, _)) = frame.bytes_mut().split_first_chunk_mut::<12>() {
                addresses[..6].copy_from_slice(&to.0);
                addresses[6..].copy_from_slice(&from.0);
            }
            frame.decide(Verdict::Transmit(PortId(port ^ 1)));
        }
    }

    fn count_drop(&mut self, _reason: DropReason) {}
}
