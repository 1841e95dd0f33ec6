//! What a value of a field is, in the words of error messages and of `docs/configuration.md`.

use super::CONTROL_SOCKET_BYTES_MAX;

/// The kinds of value.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Kind {
    /// One of these words.
    Word(&'static [&'static str]),
    /// A whole number between these, both included.
    Number(u64, u64),
    /// One of these words, or a whole number between these, both included.
    Either(&'static [&'static str], u64, u64),
    /// A transport port other than 0.
    Port,
    /// Transport ports from a first to a last one.
    Ports,
    /// An absolute path that fits a socket address.
    SocketPath,
    /// The absolute path of a directory.
    Directory,
    /// The name of a network interface.
    Interface,
    /// A name by which people and programs call something.
    Name,
    /// An IPv4 or IPv6 address of one host.
    Address,
    /// An IPv4 address of one host.
    Ipv4,
    /// An IPv6 address of one host.
    Ipv6,
    /// A subnet without host bits.
    Subnet,
    /// A link address of one host.
    Mac,
    /// An address with a port.
    Endpoint,
}

impl Kind {
    /// The kind with its article, for a sentence such as "70000 is not a port".
    #[must_use]
    pub fn noun(self) -> String {
        match self {
            Self::Word(words) => alternatives(words),
            Self::Number(min, max) => format!("a whole number from {min} to {max}"),
            Self::Either(words, min, max) => {
                let words: Vec<String> = words.iter().map(|word| format!("\"{word}\"")).collect();
                format!("{} or a whole number from {min} to {max}", words.join(", "))
            }
            Self::Port => "a port".into(),
            Self::Ports => "a range of ports".into(),
            Self::SocketPath => format!("an absolute path of at most {CONTROL_SOCKET_BYTES_MAX} bytes"),
            Self::Directory => "the absolute path of a directory".into(),
            Self::Interface => "an interface name".into(),
            Self::Name => "a name".into(),
            Self::Address => "an IP address".into(),
            Self::Ipv4 => "an IPv4 address".into(),
            Self::Ipv6 => "an IPv6 address".into(),
            Self::Subnet => "a subnet".into(),
            Self::Mac => "a link address".into(),
            Self::Endpoint => "an address with a port".into(),
        }
    }

    /// The kind in a table: without its article, and with its form.
    #[must_use]
    pub fn title(self) -> String {
        let noun = self.noun();
        let bare = ["a ", "an ", "the "].iter().find_map(|article| noun.strip_prefix(article)).unwrap_or(&noun);
        self.form().map_or_else(|| bare.to_owned(), |form| format!("{bare}, {form}"))
    }

    /// The kind's form in words, where its name alone does not say it.
    #[must_use]
    pub const fn form(self) -> Option<&'static str> {
        match self {
            Self::Port => Some("1 to 65535"),
            Self::Ports => Some("FIRST-LAST, each 1 to 65535"),
            Self::Interface => Some("1 to 15 bytes without blanks, slashes and colons"),
            Self::Name => Some("1 to 63 letters, digits, '-', '_', '.', '/' or ':'"),
            Self::Subnet => Some("ADDRESS/LENGTH"),
            Self::Mac => Some("six pairs of hexadecimal digits"),
            Self::Endpoint => Some("ADDRESS:PORT, with brackets around an IPv6 address"),
            _ => None,
        }
    }
}

/// The words in quotes, the last two separated by "or".
fn alternatives(words: &[&str]) -> String {
    let quoted: Vec<String> = words.iter().map(|word| format!("\"{word}\"")).collect();
    match quoted.split_last() {
        Some((last, rest)) if !rest.is_empty() => format!("{} or {last}", rest.join(", ")),
        _ => quoted.concat(),
    }
}
