//! Open connections to a backend that a takeover's configuration no longer has.

use std::io::{ErrorKind, Read, Write};
use std::net::TcpStream;
use std::time::Duration;

use crate::common::{start_weirgate, status, world};
use weirgate_world::{Host, Options, World, build_gateway};

/// Asks on an open connection; the name of the pod that answers.
fn ask(stream: &mut TcpStream) -> std::io::Result<String> {
    stream.write_all(b"GET / HTTP/1.1\r\nHost: web\r\n\r\n")?;
    let (mut answer, mut chunk) = (Vec::new(), [0; 4096]);
    while !answer.ends_with(b"\n") || !answer.windows(4).any(|four| four == b"\r\n\r\n") {
        match stream.read(&mut chunk)? {
            0 => break,
            count => answer.extend(&chunk[..count]),
        }
    }
    let text = String::from_utf8_lossy(&answer).into_owned();
    Ok(text.lines().last().unwrap_or_default().trim().to_owned())
}

/// An open connection, and the configuration after it, in which its backend is none.
fn connect(world: &World, address: &str) -> (TcpStream, Vec<Host>) {
    let mut stream = world.inside(Host::Client, || {
        let stream = TcpStream::connect(address).expect("the service");
        stream.set_read_timeout(Some(Duration::from_secs(20))).expect("a socket");
        stream
    });
    let name = ask(&mut stream).expect("an answer");
    let others: Vec<Host> = Host::pods().into_iter().filter(|pod| pod.name() != name).collect();
    assert_eq!(others.len(), Host::pods().len() - 1, "{name} is a pod");
    (stream, others)
}

#[test]
fn a_takeover_without_a_backend_resets_its_open_connections_only_where_the_service_says_so() {
    let world = world(Options::default());
    let resetting = |pods: &[Host]| {
        world.gateway_config_for(pods).replace("[[service]]\n", "[[service]]\nremoved_backend = \"reset\"\n")
    };
    let take_over =
        |configuration: &str| world.take_over(build_gateway(), configuration).unwrap_or_else(|error| panic!("{error}"));
    let mut running = vec![start_weirgate(&world, &world.gateway_config())];
    for address in ["192.0.2.1:30080", "[2001:db8:1::1]:30080"] {
        let (mut stream, others) = connect(&world, address);
        running.push(take_over(&world.gateway_config_for(&others)));
        assert!(!ask(&mut stream).expect("the connection goes on").is_empty());

        running.push(take_over(&resetting(&others)));
        assert_eq!(ask(&mut stream).map_err(|error| error.kind()), Err(ErrorKind::ConnectionReset), "{address}");
        assert!(status(&world)["counters"]["resets-sent"].as_u64() >= Some(1));
        // Other connections begin with other backends.
        let (mut other, _) = connect(&world, address);
        assert!(!ask(&mut other).expect("an answer").is_empty());
        running.push(take_over(&world.gateway_config()));
    }
}
