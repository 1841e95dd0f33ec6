//! Single values: which of them a field takes, at the bounds.

use super::findings;

/// Whether the file is right with this in place of that.
fn takes(from: &str, to: &str) -> bool {
    findings(&[(from, to)]).0.is_empty()
}

#[test]
fn interface_names_are_those_that_the_kernel_takes() {
    for (name, fits) in [
        ("a", true),
        ("eth0.10", true),
        ("...", true),
        ("fifteen-letters", true),
        ("sixteen-letters-", false),
        ("", false),
        (".", false),
        ("..", false),
        ("a/b", false),
        ("a:b", false),
        ("a b", false),
        ("a\\tb", false),
        ("a\\u0000b", false),
    ] {
        assert_eq!(takes("\"up0\"", &format!("\"{name}\"")), fits, "{name}");
    }
}

#[test]
fn a_directory_is_an_absolute_path_that_the_kernel_takes() {
    let longest = format!("/{}", "d".repeat(4094));
    for (path, fits) in [
        ("/dev/shm", true),
        (longest.as_str(), true),
        (&format!("{longest}d"), false),
        ("dev/shm", false),
        ("", false),
        ("/dev\\u0000shm", false),
    ] {
        assert_eq!(takes("[overlay]", &format!("[flows]\nmemory = \"{path}\"\n[overlay]")), fits, "{path}");
    }
}

#[test]
fn no_host_has_an_address_that_stands_for_others() {
    for (address, what) in [
        ("0.0.0.0", "the unspecified address"),
        ("::", "the unspecified address"),
        ("127.0.0.1", "a loopback address"),
        ("::1", "a loopback address"),
        ("224.0.0.1", "a multicast address"),
        ("ff02::1", "a multicast address"),
        ("255.255.255.255", "the broadcast address"),
        ("0.1.2.3", "an address of \"this network\""),
        ("::ffff:192.0.2.1", "an IPv4 address written as IPv6"),
        ("fe80::1", "a link-local address"),
    ] {
        let (errors, _) = findings(&[("\"192.0.2.1\"", &format!("\"{address}\""))]);
        let expected = format!("uplink.addresses[0]: \"{address}\" is {what}; ");
        assert!(matches!(&errors[..], [error] if error.contains(&expected)), "{errors:?}");
    }
    assert!(takes("\"192.0.2.1\"", "\"1.0.0.0\""));
}

#[test]
fn a_long_value_is_shown_by_its_beginning() {
    for (letters, shown) in [(60, "x".repeat(60)), (61, "x".repeat(60) + "…"), (70, "x".repeat(60) + "…")] {
        let (errors, _) = findings(&[("poll = \"busy\"", &format!("poll = \"{}\"", "x".repeat(letters)))]);
        assert!(errors[0].contains(&format!("gateway.poll: \"{shown}\" is not ")), "{errors:?}");
    }
}
