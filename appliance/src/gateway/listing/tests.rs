use std::env::temp_dir;
use std::io::Read;
use std::os::unix::net::UnixStream;
use std::sync::mpsc::{Receiver, channel};
use std::{process, thread};

use async_io::block_on;
use futures_lite::{FutureExt, future};

use super::*;
use crate::status::Server;

/// A lister whose worker is played by a test.
struct Played(Option<Lister>);

impl Listers for Played {
    fn lister(&mut self, _worker: usize) -> Option<&mut Lister> {
        self.0.as_mut()
    }

    fn wake(&self, _worker: usize) {}
}

fn played() -> (RefCell<Played>, Listed) {
    let (lister, listed) = connect();
    (RefCell::new(Played(Some(lister))), listed)
}

fn record(protocol: u8) -> Record {
    let sides = Sides { source: ([192, 0, 2, 1].into(), 1), destination: ([192, 0, 2, 2].into(), 2) };
    Record {
        protocol,
        state: State::Udp,
        is_assured: false,
        timeout_seconds: 1,
        original: sides,
        reply: sides,
        traffic: FlowTraffic::default(),
    }
}

impl Listed {
    /// Answers what was asked with these flows.
    fn play(&mut self, flows: &[u8], next: Option<u32>) -> Ask {
        let ask = self.asks.pop().expect("something was asked");
        for protocol in flows {
            self.items.push(Item::Flow(record(*protocol))).expect("room for a slice");
        }
        self.items.push(Item::End(next)).expect("room for a slice");
        ask
    }
}

const FIRST: Ask = Ask { is_v6: false, from: 0 };
const SECOND: Ask = Ask { is_v6: true, from: 256 };

/// The protocols of the flows that come for this ask.
fn ask(listers: &RefCell<Played>, ask: Ask, mut worker: impl FnMut()) -> io::Result<(Vec<u8>, Option<u32>)> {
    let mut records = Vec::new();
    let limit = Instant::now() + Duration::from_secs(20);
    let next = block_on(slice(listers, 0, ask, &mut records).or(async {
        while Instant::now() < limit {
            worker();
            future::yield_now().await;
        }
        Err(ErrorKind::TimedOut.into())
    }))?;
    Ok((records.iter().map(|record| record.protocol).collect(), next))
}

/// Asks, and waits no longer once the worker has taken `turns`.
fn give_up(listers: &RefCell<Played>, turns: usize, mut turn: impl FnMut()) {
    let mut records = Vec::new();
    let ended = block_on(slice(listers, 0, FIRST, &mut records).or(async {
        future::yield_now().await;
        for _ in 0..turns {
            turn();
            future::yield_now().await;
        }
        Err(ErrorKind::TimedOut.into())
    }));
    assert_eq!(ended.expect_err("no answer yet").kind(), ErrorKind::TimedOut);
}

#[test]
fn an_answer_that_comes_too_late_is_nobody_else_s() {
    let (listers, mut listed) = played();
    give_up(&listers, 0, || {});
    let mut turn = 0;
    let answer = ask(&listers, SECOND, || {
        // The late answer comes in two slices while the next client waits for its turn.
        match turn {
            0 => assert_eq!(listed.asks.pop().expect("the first ask").from, FIRST.from),
            1 => listed.items.push(Item::Flow(record(1))).expect("room"),
            2 => listed.items.push(Item::End(Some(7))).expect("room"),
            _ if listed.asks.is_empty() => {}
            _ => assert_eq!(listed.play(&[6, 17], Some(512)).from, SECOND.from),
        }
        turn += 1;
    });
    assert_eq!(answer.expect("an answer"), (vec![6, 17], Some(512)));
}

#[test]
fn a_client_that_goes_away_in_the_middle_of_an_answer_holds_nothing() {
    let (listers, mut listed) = played();
    give_up(&listers, 1, || {
        assert_eq!(listed.asks.pop().expect("the first ask").from, FIRST.from);
        listed.items.push(Item::Flow(record(1))).expect("room");
    });
    listed.items.push(Item::Flow(record(2))).expect("room");
    listed.items.push(Item::End(None)).expect("room");
    let answer = ask(&listers, SECOND, || {
        if !listed.asks.is_empty() {
            listed.play(&[132], None);
        }
    });
    assert_eq!(answer.expect("an answer"), (vec![132], None));
}

#[test]
fn whoever_asked_workers_that_have_ended_gets_nothing_from_those_after_them() {
    let (listers, _ended) = played();
    let (earlier, later) = (Rc::new(()), Rc::new(()));
    assert!(listers.borrow_mut().lister(0).expect("a lister").ask(&earlier, FIRST));
    // A takeover failed meanwhile, and the workers were started again.
    let (lister, mut listed) = connect();
    listers.borrow_mut().0 = Some(lister);
    let mut all = listers.borrow_mut();
    let lister = all.lister(0).expect("a lister");
    let mut records = Vec::new();
    assert_eq!(lister.collect(&earlier, &mut records).expect_err("another worker").kind(), ErrorKind::BrokenPipe);
    assert!(lister.ask(&later, SECOND));
    listed.play(&[6], None);
    assert!(lister.collect(&earlier, &mut records).is_err() && records.is_empty());
    assert_eq!(lister.collect(&later, &mut records).expect("its own answer"), Poll::Ready(None));
    assert_eq!(records.len(), 1);
}

/// What a list without end ends with, of which the filter picks flows of `protocol`; and how many slices another client
/// got meanwhile.
fn list_without_end(
    name: &str,
    protocol: &str,
    client: impl FnOnce(UnixStream, Receiver<()>) + Send + 'static,
) -> (io::Result<()>, usize) {
    let path = temp_dir().join(format!("weirgate-{name}-{}.sock", process::id()));
    let mut server = Server::bind(&path, false).expect("a socket");
    server.announce().expect("a socket");
    let (given_up, end) = channel();
    let client = thread::spawn({
        let path = path.clone();
        move || client(UnixStream::connect(path).expect("a gateway"), end)
    });
    let (listers, mut listed) = played();
    let filter = Filter { protocol: Some(protocol.parse().unwrap()), ..Filter::default() };
    let (services, mut other) = (Services::new(), 0);
    let ended = block_on(async {
        let mut asking = server.accept().await;
        let listing = stream(&mut asking, &filter, 1, &services, &listers);
        let worker = async {
            let flows = [17; SLICE as usize];
            loop {
                if !listed.asks.is_empty() {
                    listed.play(&flows, Some(0));
                }
                Timer::after(LOOK).await;
            }
        };
        let others = async {
            let mut records = Vec::new();
            loop {
                match slice(&listers, 0, SECOND, &mut records).await {
                    Ok(_) => other += 1,
                    Err(error) => panic!("another client has to wait: {error}"),
                }
            }
        };
        let limit = async {
            Timer::after(Duration::from_secs(60)).await;
            panic!("a list continues for nobody");
        };
        listing.or(worker).or(others).or(limit).await
    });
    drop((server, given_up));
    client.join().expect("a client");
    (ended, other)
}

#[test]
fn a_list_of_which_nothing_is_picked_ends_when_its_client_has_gone_away() {
    let (ended, _) = list_without_end("gone", "tcp", |mut client, _| {
        // It learns that the gateway still works on it.
        let mut lines = [0; 2];
        client.read_exact(&mut lines).expect("a gateway");
        assert_eq!(lines, *b"\n\n");
    });
    assert_eq!(ended.expect_err("nobody is there").kind(), ErrorKind::BrokenPipe);
}

#[test]
fn a_client_that_reads_nothing_holds_up_nobody_and_is_given_up() {
    let (ended, other) = list_without_end("stalled", "udp", |mut client, end| {
        end.recv().expect_err("nothing is said");
        let mut all = Vec::new();
        client.read_to_end(&mut all).expect("a gateway that has ended");
        assert!(all.starts_with(b"{\"protocol\":\"udp\""));
    });
    assert_eq!(ended.expect_err("it reads nothing").kind(), ErrorKind::TimedOut);
    assert!(other > 10, "{other}");
}
