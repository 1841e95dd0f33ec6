//! The packet core of weirgate: a gateway from the outside into a flannel container network.
//!
//! No allocation, no I/O, no clock, no globals: the data path is a function of frames, tables and
//! time, all of which the caller owns. The crate is `no_std` and needs no allocator.
//!
//! # A gateway in thirty lines
//!
//! The control side describes what there is and compiles it to a snapshot. The data side has a worker, and gives it
//! bursts of frames; each frame comes back with a verdict.
//!
//! ```
//! use weirgate::counters::Counters;
//! use weirgate::frame::{Burst, Frame, HEADROOM_MAX};
//! use weirgate::net::{Endpoint, Mac, PortId, WorkerId};
//! use weirgate::pipeline::{Worker, WorkerConfig, process};
//! use weirgate::snapshot::{Backend, Description, Port, Service, Snapshot, bytes_required, compile};
//! use weirgate::time::Instant;
//! use weirgate::verdict::{DropReason, Verdict};
//!
//! // What there is: one link, and a service without a node that has its backend. Peers, routes and neighbours come from
//! // whoever follows the kernel.
//! let frontend = [Endpoint { address: [192, 0, 2, 1].into(), port: 80 }];
//! let backend = [Backend { endpoint: Endpoint { address: [10, 77, 1, 2].into(), port: 8080 }, weight: 1 }];
//! let services = [Service { frontends: &frontend, backends: &backend, ..Service::default() }];
//! let ports = [Port { mac: Mac([2, 0, 0, 0, 0, 1]), mtu: 1500 }];
//! let description = Description { generation: 1, ports: &ports, services: &services, ..Description::default() };
//! let mut memory = vec![0_u8; bytes_required(&description) + 8];
//! let start = memory.as_ptr().align_offset(8);
//! let len = compile(&description, &mut memory[start..])?;
//! let snapshot = Snapshot::attach(&memory[start..][..len])?;
//!
//! // Who works: one worker with its flow tables, in memory that is taken once.
//! let config = WorkerConfig { flows_v4: 1024, flows_v6: 1024, ..WorkerConfig::new(WorkerId(0), 1, [1, 2, 3, 4]) };
//! let mut tables = vec![0_u8; Worker::memory_bytes(&config) + 64];
//! let start = tables.as_ptr().align_offset(64);
//! let counters = Box::<Counters>::default();
//! let mut worker = Worker::new(&config, &mut tables[start..], &counters, &[])?;
//!
//! // What comes in: frames with room in front, where headers grow without a copy.
//! let mut buffer = [0; HEADROOM_MAX + 64];
//! buffer[HEADROOM_MAX..][..6].copy_from_slice(&[2, 0, 0, 0, 0, 1]);
//! let mut frames = [Frame::new(&mut buffer, HEADROOM_MAX, 10, PortId(0))?];
//! process(&mut worker, &snapshot, Instant::from_secs(1), &mut Burst::new(&mut frames, &mut []));
//! assert_eq!(frames[0].verdict(), Some(Verdict::Drop(DropReason::Truncated)));
//! assert_eq!(counters.drops(DropReason::Truncated), 1);
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```
//!
//! `examples/pipeline_pcap.rs` sends captured frames through such a gateway, and tells each step.
//!
//! # The modules by themselves
//!
//! Each works without those below it in this list, and without a pipeline or a snapshot unless it is one:
//!
//! - [`net`], [`time`], [`hash`], [`verdict`], [`frame`]: the vocabulary.
//! - [`wire`]: views of headers that cannot fail once parsed, and checksums.
//! - [`maglev`]: the consistent-hash table. What a failing backend moves:
//!
//!   ```
//!   use weirgate::hash::HashKey;
//!   use weirgate::maglev::{Member, fill};
//!
//!   let key = HashKey::from_seed(7);
//!   let member = |number: u8| Member::new(&key, [number; 16], 80, 1, 65_537);
//!   let (mut before, mut after) = (vec![0; 65_537], vec![0; 65_537]);
//!   fill(&mut [member(1), member(2), member(3), member(4)], &mut before)?;
//!   fill(&mut [member(1), member(2), member(3)], &mut after)?;
//!   // The fourth's slots go to the others, and few of the others' move.
//!   let moved = before.iter().zip(&after).filter(|(was, is)| **was != 3 && was != is).count();
//!   assert!(moved < 65_537 / 20);
//!   # Ok::<(), weirgate::maglev::FillError>(())
//!   ```
//! - [`flow`]: the flow table; its documentation follows a TCP handshake.
//! - [`fragment`]: fragmented datagrams, held and sent on without reassembly.
//! - [`tunnel`]: encapsulation in place; its documentation sends a packet through VXLAN.
//! - [`nat`]: ports that stand for others; its documentation puts two hosts behind one address.
//! - [`snapshot`]: what the control side knows, compiled.
//! - [`counters`]: what is counted, readable while it is written.
//! - [`pipeline`]: the data path.
//!
//! # Units and byte order
//!
//! Addresses and ports of packets are bytes in wire order (`[u8; 4]`, `[u8; 16]`, `[u8; 2]`), those that a person
//! configures are [`core::net`]'s and numbers. Times are nanoseconds of one monotonic clock. Lengths are bytes; an MTU
//! counts from the IP header on.
//!
//! # What is guaranteed
//!
//! - No panic and no read past the end, whatever a frame, a snapshot or an adopted table holds. `unsafe` stands in one
//!   file, for typed views of lent memory and for prefetching.
//! - No allocation, no lock and no system call. Memory is the caller's: tables take it once, hold indices and no
//!   pointers, and can be adopted by a later process.
//! - Work for each frame is bounded, and said where it is more than constant. Each table has a limit, a rule when it is
//!   full, and a counter.
//! - Every frame gets a verdict, and every drop has a [name](verdict::DropReason) and a counter.
//! - Equal arguments give equal bytes: with the same tables, secrets and times, a run can be repeated.
//!
//! # Features
//!
//! - `ipnet`: [`net::Prefix`] from the networks of the crate `ipnet`, which links an allocator. Off by default.
//!
//! There is no feature `std`: errors implement [`core::error::Error`], and nothing else would need it.

#![no_std]
#![deny(unsafe_code)]
#![warn(missing_docs)]

#[cfg(test)]
extern crate std;

pub mod counters;
pub mod flow;
pub mod fragment;
pub mod frame;
pub mod hash;
pub mod maglev;
pub mod nat;
pub mod net;
pub mod pipeline;
pub mod snapshot;
pub mod time;
pub mod tunnel;
pub mod verdict;
pub mod wire;
