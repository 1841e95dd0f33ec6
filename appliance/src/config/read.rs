//! Reads typed values out of a parsed TOML document, by the description of each field.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::ops::Range;

use ipnet::IpNet;
use toml::de::{DeTable, DeValue};
use weirgate::net::{Endpoint, Mac};

use super::CONTROL_SOCKET_BYTES_MAX;
use super::fields::{Absent, Field, SECTIONS, Section};
use super::kind::Kind;
use super::problem::{Findings, Located, Place, nearest};

/// The longest interface name, without the closing zero (`IFNAMSIZ` less one).
const INTERFACE_NAME_MAX: usize = 15;

/// One table of the file beside its description.
#[derive(Debug)]
pub(super) struct Table<'t> {
    section: &'static Section,
    pub(super) place: Place,
    content: Option<&'t DeTable<'t>>,
}

impl<'t> Table<'t> {
    /// The only table of this name; an absent one reads as empty.
    pub(super) fn single(
        document: &'t DeTable<'t>,
        section: &'static Section,
        end: usize,
        findings: &mut Findings<'_>,
    ) -> Self {
        let absent = Place { path: section.name.to_owned(), span: end..end };
        let Some(value) = document.get(section.name) else {
            if section.required {
                let lines: Vec<String> = required_lines(section);
                findings
                    .error(&absent, format!("missing; add the table [{}] with {}", section.name, lines.join(" and ")));
            }
            return Self { section, place: absent, content: None };
        };
        let place = Place { path: section.name.to_owned(), span: value.span() };
        let content = value.get_ref().as_table();
        if content.is_none() {
            let shown = shown(value.get_ref());
            findings.error(&place, format!("{shown} is not a table; use [{}] on a line of its own", section.name));
        }
        let table = Self { section, place, content };
        table.refuse_unknown(findings);
        table
    }

    /// All tables of this name, in the order of the file.
    pub(super) fn repeated(
        document: &'t DeTable<'t>,
        section: &'static Section,
        findings: &mut Findings<'_>,
    ) -> Vec<Self> {
        let Some(value) = document.get(section.name) else { return Vec::new() };
        let whole = Place { path: section.name.to_owned(), span: value.span() };
        let remedy = format!("use [[{}]] on a line of its own for each", section.name);
        let Some(items) = value.get_ref().as_array() else {
            findings.error(&whole, format!("{} is not a list of tables; {remedy}", shown(value.get_ref())));
            return Vec::new();
        };
        let mut tables = Vec::new();
        for (index, item) in items.iter().enumerate() {
            let place = Place { path: format!("{}[{index}]", section.name), span: item.span() };
            let Some(content) = item.get_ref().as_table() else {
                findings.error(&place, format!("{} is not a table; {remedy}", shown(item.get_ref())));
                continue;
            };
            let table = Self { section, place, content: Some(content) };
            table.refuse_unknown(findings);
            tables.push(table);
        }
        tables
    }

    /// Whether the file has this table.
    pub(super) const fn is_present(&self) -> bool {
        self.content.is_some()
    }

    /// The field's value, where the file has one and it is right.
    pub(super) fn one<T: Value>(&self, name: &str, findings: &mut Findings<'_>) -> Option<Located<T>> {
        let field = self.field(name);
        let (place, value) = self.lookup_or_miss(field, findings)?;
        match T::read(field, value) {
            Ok(value) => Some(Located { value, place }),
            Err(text) => {
                findings.error(&place, text);
                None
            }
        }
    }

    /// The field's values that are right; `None` where the file does not have the field.
    pub(super) fn many<T: Value>(&self, name: &str, findings: &mut Findings<'_>) -> Option<List<T>> {
        let field = self.field(name);
        let (place, value) = self.lookup_or_miss(field, findings)?;
        let Some(items) = value.as_array() else {
            findings.error(&place, format!("{} is not a list; use one such as {}", shown(value), field.example));
            return None;
        };
        let mut list = List { items: Vec::new(), written: items.len(), place };
        for (index, item) in items.iter().enumerate() {
            let place = Place { path: format!("{}[{index}]", list.place.path), span: item.span() };
            match T::read(field, item.get_ref()) {
                Ok(value) => list.items.push(Located { value, place }),
                Err(text) => findings.error(&place, text),
            }
        }
        Some(list)
    }

    /// Reports that the field is needed; `why` follows the word "missing".
    pub(super) fn missing(&self, name: &str, why: &str, findings: &mut Findings<'_>) {
        let field = self.field(name);
        let place = Place { path: format!("{}.{name}", self.place.path), span: self.place.span.clone() };
        findings.error(&place, format!("missing{why}; add a line such as {name} = {}", field.example));
    }

    /// Whether the file has this field at all, right or wrong.
    pub(super) fn has(&self, name: &str) -> bool {
        self.lookup(name).is_some()
    }

    fn field(&self, name: &str) -> &'static Field {
        self.section.fields.iter().find(|field| field.name == name).expect("every field that is read is described")
    }

    /// As [`lookup`](Self::lookup); reports a field that has to be there.
    fn lookup_or_miss(&self, field: &Field, findings: &mut Findings<'_>) -> Option<(Place, &'t DeValue<'t>)> {
        let found = self.lookup(field.name);
        if found.is_none() && field.absent == Absent::Error && self.is_present() {
            self.missing(field.name, "", findings);
        }
        found
    }

    fn lookup(&self, name: &str) -> Option<(Place, &'t DeValue<'t>)> {
        let value = self.content?.get(name)?;
        Some((Place { path: format!("{}.{name}", self.place.path), span: value.span() }, value.get_ref()))
    }

    fn refuse_unknown(&self, findings: &mut Findings<'_>) {
        let names = || self.section.fields.iter().map(|field| field.name);
        for key in self.content.into_iter().flat_map(DeTable::keys) {
            let name = key.get_ref().as_ref();
            let place = Place { path: format!("{}.{name}", self.place.path), span: key.span() };
            refuse_other("field", name, place, names(), findings);
        }
    }
}

/// A list field: its right values, and how many the file has.
#[derive(Debug)]
pub(super) struct List<T> {
    pub(super) items: Vec<Located<T>>,
    pub(super) written: usize,
    pub(super) place: Place,
}

impl<T> List<T> {
    /// Whether every value of the list is valid. If not, rules about missing values do not apply.
    pub(super) const fn is_whole(&self) -> bool {
        self.written == self.items.len()
    }

    /// The values that are right.
    pub(super) fn values(&self) -> impl Iterator<Item = &T> {
        self.items.iter().map(|item| &item.value)
    }
}

/// Refuses tables that the format does not have.
pub(super) fn refuse_unknown_tables(document: &DeTable<'_>, findings: &mut Findings<'_>) {
    let names = || SECTIONS.iter().map(|section| section.name);
    for key in document.keys() {
        let name = key.get_ref().as_ref();
        let place = Place { path: name.to_owned(), span: key.span() };
        refuse_other("table", name, place, names(), findings);
    }
}

/// Reports a name that is none of the `known` ones.
fn refuse_other<'n>(
    what: &str,
    name: &str,
    place: Place,
    known: impl Iterator<Item = &'n str> + Clone,
    findings: &mut Findings<'_>,
) {
    if known.clone().any(|known| known == name) {
        return;
    }
    let remedy = match nearest(name, known.clone()) {
        Some(known) => format!("did you mean {known}?"),
        None => format!("use one of {}", known.collect::<Vec<_>>().join(", ")),
    };
    findings.error(&place, format!("unknown {what}; {remedy}"));
}

fn required_lines(section: &Section) -> Vec<String> {
    let required = section.fields.iter().filter(|field| field.absent == Absent::Error);
    required.map(|field| format!("{} = {}", field.name, field.example)).collect()
}

/// A value as the file has it, cut where it is long.
pub(super) fn shown(value: &DeValue<'_>) -> String {
    match value {
        DeValue::String(text) => {
            let (cut, rest): (String, bool) = (text.chars().take(60).collect(), text.chars().count() > 60);
            format!("\"{}{}\"", cut.escape_debug(), if rest { "…" } else { "" })
        }
        DeValue::Integer(number) => number.to_string(),
        DeValue::Float(number) => number.as_str().to_owned(),
        DeValue::Boolean(truth) => truth.to_string(),
        DeValue::Datetime(datetime) => datetime.to_string(),
        DeValue::Array(_) => "a list".to_owned(),
        DeValue::Table(_) => "a table".to_owned(),
    }
}

/// The type of a field's value.
pub(super) trait Value: Sized {
    /// The value, or a sentence that says what is wrong and what would work.
    fn read(field: &Field, value: &DeValue<'_>) -> Result<Self, String>;
}

/// "… is not a port; use 1 to 65535, such as 30080".
fn refusal(field: &Field, value: &DeValue<'_>) -> String {
    if let (Kind::Word(words), DeValue::String(text)) = (field.kind, value) {
        let known = nearest(text, words.iter().copied());
        let hint = known.map(|word| format!("; did you mean \"{word}\"?")).unwrap_or_default();
        return format!("{} is not {}{hint}", shown(value), field.kind.noun());
    }
    let form = field.kind.form().map_or_else(|| "one".to_owned(), |form| format!("{form},"));
    format!("{} is not {}; use {form} such as {}", shown(value), field.kind.noun(), example(field))
}

/// The field's example, or the first of its list.
pub(super) fn example(field: &Field) -> String {
    let first = || {
        let parsed = DeValue::parse(field.example).ok()?;
        parsed.get_ref().as_array()?.first().map(|item| shown(item.get_ref()))
    };
    if field.list { first() } else { None }.unwrap_or_else(|| field.example.to_owned())
}

fn text<'v>(field: &Field, value: &'v DeValue<'_>) -> Result<&'v str, String> {
    value.as_str().ok_or_else(|| refusal(field, value))
}

impl Value for u64 {
    fn read(field: &Field, value: &DeValue<'_>) -> Result<Self, String> {
        let range: Range<u128> = match field.kind {
            Kind::Number(min, max) => u128::from(min)..u128::from(max) + 1,
            Kind::Port => 1..1 << 16,
            _ => 0..1 << 64,
        };
        value
            .as_integer()
            .and_then(|number| u128::from_str_radix(number.as_str(), number.radix()).ok())
            .filter(|number| range.contains(number))
            .and_then(|number| Self::try_from(number).ok())
            .ok_or_else(|| refusal(field, value))
    }
}

/// A word of a field that may also be a number.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(super) enum Either {
    Word(String),
    Number(u64),
}

impl Value for Either {
    fn read(field: &Field, value: &DeValue<'_>) -> Result<Self, String> {
        let Kind::Either(words, min, max) = field.kind else { return Err(refusal(field, value)) };
        match value.as_str() {
            Some(text) if words.contains(&text) => Ok(Self::Word(text.to_owned())),
            Some(_) => Err(refusal(field, value)),
            None => {
                let number = u64::read(field, value)?;
                if (min..=max).contains(&number) { Ok(Self::Number(number)) } else { Err(refusal(field, value)) }
            }
        }
    }
}

/// The first and the last port of a range.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) struct Ports(pub(super) u16, pub(super) u16);

impl Value for Ports {
    fn read(field: &Field, value: &DeValue<'_>) -> Result<Self, String> {
        let port = |text: &str| text.parse().ok().filter(|port| *port != 0);
        let ends = text(field, value)?.split_once('-').and_then(|(first, last)| Some((port(first)?, port(last)?)));
        match ends {
            Some((first, last)) if first <= last => Ok(Self(first, last)),
            Some((first, last)) => Err(format!("{} ends before it begins; use \"{last}-{first}\"", shown(value))),
            None => Err(refusal(field, value)),
        }
    }
}

impl Value for u16 {
    fn read(field: &Field, value: &DeValue<'_>) -> Result<Self, String> {
        Self::try_from(u64::read(field, value)?).map_err(|_| refusal(field, value))
    }
}

impl Value for String {
    fn read(field: &Field, value: &DeValue<'_>) -> Result<Self, String> {
        let text = text(field, value)?;
        let fits = match field.kind {
            Kind::Word(words) => words.contains(&text),
            Kind::SocketPath => {
                text.starts_with('/')
                    && !text.ends_with('/')
                    && text.len() <= CONTROL_SOCKET_BYTES_MAX
                    && !text.contains('\0')
            }
            Kind::Directory => text.starts_with('/') && text.len() < libc::PATH_MAX as usize && !text.contains('\0'),
            // dev_valid_name() of the kernel: these and no others.
            Kind::Interface => {
                (1..=INTERFACE_NAME_MAX).contains(&text.len())
                    && text != "."
                    && text != ".."
                    && !text.contains(|c: char| c == '/' || c == ':' || c == '\0' || c.is_whitespace())
            }
            Kind::Name => {
                (1..=63).contains(&text.len())
                    && text.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"-_./:".contains(&byte))
            }
            _ => false,
        };
        if fits { Ok(text.to_owned()) } else { Err(refusal(field, value)) }
    }
}

/// Why no host can have this address, if so.
fn unusable(address: IpAddr) -> Option<&'static str> {
    match address {
        _ if address.is_unspecified() => Some("the unspecified address"),
        _ if address.is_loopback() => Some("a loopback address"),
        _ if address.is_multicast() => Some("a multicast address"),
        IpAddr::V4(v4) if v4.is_broadcast() => Some("the broadcast address"),
        IpAddr::V4(v4) if v4.octets()[0] == 0 => Some("an address of \"this network\""),
        IpAddr::V6(v6) if v6.to_ipv4_mapped().is_some() => Some("an IPv4 address written as IPv6"),
        IpAddr::V6(v6) if v6.is_unicast_link_local() => Some("a link-local address"),
        _ => None,
    }
}

fn host(field: &Field, value: &DeValue<'_>) -> Result<IpAddr, String> {
    let address: IpAddr = text(field, value)?.parse().map_err(|_| refusal(field, value))?;
    match unusable(address) {
        Some(what) => Err(format!("{} is {what}; use one such as {}", shown(value), example(field))),
        None => Ok(address),
    }
}

impl Value for IpAddr {
    fn read(field: &Field, value: &DeValue<'_>) -> Result<Self, String> {
        host(field, value)
    }
}

impl Value for Ipv4Addr {
    fn read(field: &Field, value: &DeValue<'_>) -> Result<Self, String> {
        match host(field, value)? {
            IpAddr::V4(address) => Ok(address),
            IpAddr::V6(_) => Err(refusal(field, value)),
        }
    }
}

impl Value for Ipv6Addr {
    fn read(field: &Field, value: &DeValue<'_>) -> Result<Self, String> {
        match host(field, value)? {
            IpAddr::V6(address) => Ok(address),
            IpAddr::V4(_) => Err(refusal(field, value)),
        }
    }
}

impl Value for IpNet {
    fn read(field: &Field, value: &DeValue<'_>) -> Result<Self, String> {
        let subnet: Self = text(field, value)?.parse().map_err(|_| refusal(field, value))?;
        if subnet.trunc() != subnet {
            let length = subnet.prefix_len();
            return Err(format!("{} has bits set behind its first {length}; use \"{}\"", shown(value), subnet.trunc()));
        }
        if let Some(what) = unusable(subnet.network()) {
            return Err(format!("{} begins with {what}; use one such as {}", shown(value), example(field)));
        }
        Ok(subnet)
    }
}

impl Value for Mac {
    fn read(field: &Field, value: &DeValue<'_>) -> Result<Self, String> {
        let mac = Self::parse(text(field, value)?).ok_or_else(|| refusal(field, value))?;
        if mac == Self::ZERO {
            return Err(format!("{} belongs to no host; use one such as {}", shown(value), field.example));
        }
        if !mac.is_unicast() {
            let mut single = mac;
            single.0[0] &= !1;
            return Err(format!("{} is a group address; use one of a single host, such as \"{single}\"", shown(value)));
        }
        Ok(mac)
    }
}

impl Value for Endpoint {
    fn read(field: &Field, value: &DeValue<'_>) -> Result<Self, String> {
        let written = text(field, value)?;
        let endpoint: SocketAddr = written.parse().map_err(|_| {
            // The commonest slips have their own messages: no port, and an invalid port.
            if written.trim_matches(['[', ']']).parse::<IpAddr>().is_ok() {
                format!("{} has no port; use ADDRESS:PORT, such as {}", shown(value), example(field))
            } else {
                refusal(field, value)
            }
        })?;
        if endpoint.port() == 0 {
            return Err(format!("{} has port 0; use 1 to 65535, such as {}", shown(value), example(field)));
        }
        if let Some(what) = unusable(endpoint.ip()) {
            return Err(format!("{} has {what}; use one such as {}", shown(value), example(field)));
        }
        Ok(Self { address: endpoint.ip(), port: endpoint.port() })
    }
}
