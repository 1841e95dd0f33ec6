//! `weirgate conns` against a stand-in for the gateway, whose answers the test chooses.

use std::fs;
use std::io::{BufRead, BufReader, Write};
use std::os::unix::net::UnixListener;
use std::process::{Command, Output};
use std::thread;

const FLOW: &str = r#"{"protocol":"tcp","protocol_number":6,"state":"ESTABLISHED","timeout_seconds":86399,"assured":true,"replied":true,"service":"web","worker":0,"original":{"source":"192.0.2.10","destination":"192.0.2.1","source_port":40000,"destination_port":30080,"packets":5,"bytes":500},"reply":{"source":"10.77.74.10","destination":"10.77.200.2","source_port":80,"destination_port":50001,"packets":4,"bytes":400}}"#;

/// Runs the command with these arguments against a gateway that answers so.
fn conns(name: &str, answer: &str, arguments: &[&str]) -> Output {
    let directory = std::env::temp_dir().join(format!("weirgate-conns-{name}-{}", std::process::id()));
    fs::create_dir(&directory).expect("a directory");
    let path = directory.join("control.sock");
    let listener = UnixListener::bind(&path).expect("a socket");
    let output = thread::scope(|scope| {
        scope.spawn(|| {
            let (mut stream, _) = listener.accept().expect("a client");
            let mut asked = String::new();
            BufReader::new(&stream).read_line(&mut asked).expect("a request");
            assert!(asked.contains("conns"), "{asked}");
            stream.write_all(answer.as_bytes()).expect("it reads");
        });
        let mut command = Command::new(env!("CARGO_BIN_EXE_weirgate"));
        command.args(["conns", "--control-socket"]).arg(&path).args(arguments).output().expect("the command starts")
    });
    fs::remove_dir_all(&directory).expect("a directory");
    output
}

fn lines(output: &Output) -> usize {
    String::from_utf8_lossy(&output.stdout).lines().count()
}

#[test]
fn a_list_is_complete_only_where_all_that_was_sent_has_come() {
    for (name, arguments) in [("text", &[][..]), ("json", &["--json"][..])] {
        // An empty line only reports that the gateway is still searching.
        let whole = conns(name, &format!("{FLOW}\n\n{FLOW}\n{{\"listed\":2}}\n"), arguments);
        assert!(whole.status.success() && lines(&whole) == 2 && whole.stderr.is_empty(), "{whole:?}");
        for (end, cause) in [
            ("{\"listed\":3}\n", "the gateway has listed 3 flows and 2 arrived"),
            ("{\"listed\":1}\n", "the gateway has listed 1 flows and 2 arrived"),
            ("", "the gateway ended it"),
        ] {
            let torn = conns(name, &format!("{FLOW}\n{FLOW}\n{end}"), arguments);
            let said = String::from_utf8_lossy(&torn.stderr);
            assert_eq!(said, format!("weirgate: the list is incomplete: {cause}; run the command again\n"));
            assert_eq!((torn.status.code(), lines(&torn)), (Some(1), 2));
        }
    }
}

#[test]
fn invalid_filters_are_refused_before_the_gateway_is_asked() {
    for (option, word, known) in
        [("--state", "stablished", "established, fin_wait"), ("--protocol", "tpc", "tcp (6), udp")]
    {
        let output = Command::new(env!("CARGO_BIN_EXE_weirgate"))
            .args(["conns", "--control-socket", "/nonexistent/control.sock", option, word])
            .output()
            .expect("the command starts");
        let said = String::from_utf8_lossy(&output.stderr);
        assert_eq!(output.status.code(), Some(2), "{said}");
        assert!(said.contains(option) && said.contains(word) && said.contains(known), "{said}");
    }
}
