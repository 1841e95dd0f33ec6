//! Where weirgate decides otherwise than the kernel's connection tracking and NAT, and why.

/// Steps of `scripts.py` that end differently, and for one reason.
pub(crate) struct Difference {
    /// Their names; `*` stands for any text, or for none.
    pub(crate) steps: &'static str,
    /// What the kernel does.
    pub(crate) kernel: &'static str,
    /// What weirgate does.
    pub(crate) weirgate: &'static str,
}

const fn differs(steps: &'static str, kernel: &'static str, weirgate: &'static str) -> Difference {
    Difference { steps, kernel, weirgate }
}

impl Difference {
    /// Whether the step of this name is one of them.
    pub(crate) fn is_about(&self, step: &str) -> bool {
        let mut rest = step;
        let parts: Vec<&str> = self.steps.split('*').collect();
        for (index, part) in parts.iter().enumerate() {
            let at = match rest.find(part) {
                Some(0) if index == 0 => 0,
                Some(at) if index > 0 => at,
                _ => return false,
            };
            // The last section has to be the end.
            if index > 0 && index == parts.len() - 1 {
                return rest.ends_with(part);
            }
            rest = &rest[at + part.len()..];
        }
        rest.is_empty()
    }
}

/// With SNAT and with preserved sources.
pub(crate) const COMMON: &[Difference] = &[
    // Checksums are not computed again on the path: a wrong one stays wrong, and the receiver finds it (RFC 1624;
    // docs/rfc.md).
    differs("datagrams over IPv*: wrong sum", "dropped", "forwarded to pod"),
    differs("wrong TCP sum over IPv*: S with a wrong sum", "dropped", "forwarded to pod"),
    differs("wrong TCP sum in a connection over IPv*: data with a wrong sum", "dropped", "forwarded to pod"),
    // RFC 8200 section 8.1: UDP over IPv6 without a sum is discarded; nobody behind the gateway would take it.
    differs("datagrams over IPv6: not summed", "forwarded to pod", "dropped"),
    differs("datagrams over IPv6: not summed from pod", "forwarded to client", "dropped"),
    // RFC 6633: source quench is not sent, and ignored; a router need not carry what can only harm.
    differs("errors about * over IPv4: source quench", "error 4/0 to client", "dropped"),
    // A connection begins with a SYN (RFC 9293 section 3.5). The kernel takes up what it finds in the middle
    // (`nf_conntrack_tcp_loose`), which here would be another pod than before.
    differs("without flow A over IPv*", "forwarded to pod", "dropped"),
    differs("without flow PA over IPv*", "forwarded to pod", "dropped"),
    // What belongs to no flow is dropped by name. The kernel leaves it untranslated for its own TCP, whose reset would
    // end connections that another gateway, or this one before a restart, still holds.
    differs("without flow F over IPv*", "reset to client", "dropped"),
    differs("without flow FA over IPv*", "reset to client", "dropped"),
    differs("without flow SA over IPv*", "reset to client", "dropped"),
    differs("without flow no flags over IPv*", "reset to client", "dropped"),
    differs("without flow SF over IPv*", "reset to client", "dropped"),
    differs("without flow FPU over IPv*", "reset to client", "dropped"),
    // No windows are tracked: replies may take another path, and an adopted flow has none. A segment out of its
    // window is for the host to answer (RFC 9293 section 3.10.7.4, RFC 5961).
    differs("out of window over IPv*: R far off", "dropped", "forwarded to pod"),
    differs("out of window over IPv*: data far off", "reset to client", "forwarded to pod"),
    // An acknowledgement of what was never sent changes nothing and is the host's to answer (RFC 9293 section 3.10.7.4).
    // The kernel leaves it untranslated for its own TCP, whose reset would end the connection.
    differs("blind handshake over IPv*: * of another number", "reset to client", "forwarded to pod"),
    // Invalid combinations of flags are dropped by name. The kernel leaves them untranslated for its own TCP,
    // whose reset would end the connection.
    differs("odd flags in a connection over IPv*: no flags from client", "reset to client", "dropped"),
    differs("odd flags in a connection over IPv*: SF from client", "reset to client", "dropped"),
    differs("odd flags in a connection over IPv*: F from client", "reset to client", "dropped"),
    differs("odd flags in a connection over IPv*: FPU from client", "reset to client", "dropped"),
    // Fragments are forwarded as they come. The kernel reassembles first, so that an incomplete datagram goes nowhere,
    // and fragments again (docs/decisions.md).
    differs("fragments in order over IPv6: sent", "forwarded to pod", "forwarded to pod"),
    differs("fragments in reverse over IPv6: sent", "forwarded to pod", "forwarded to pod"),
    differs("fragments with one twice over IPv6: sent", "forwarded to pod", "forwarded to pod"),
    differs("fragments without the last over IPv*: sent", "dropped", "forwarded to pod"),
    // SCTP. What the kernel does not follow, or finds wrong, it leaves untranslated for its own SCTP; this one has none,
    // and says so.
    //
    // A CRC is changed by the difference that the translation makes, so a wrong one stays wrong, and the receiver
    // finds it (docs/decisions.md).
    differs("wrong CRC over IPv4: *", "error 3/2 to client", "forwarded to pod"),
    differs("wrong CRC over IPv6: *", "error 4/1 to client", "forwarded to pod"),
    differs("wrong CRC in an association over IPv4: client's *", "error 3/2 to client", "forwarded to pod"),
    differs("wrong CRC in an association over IPv6: client's *", "error 4/1 to client", "forwarded to pod"),
    // Another tag changes no state, and is forwarded: the receiver checks the tag (RFC 9260 section 8.5), and may have
    // restarted through another gateway (docs/decisions.md).
    differs("another tag with * from client over IPv4: sent", "error 3/2 to client", "forwarded to pod"),
    differs("another tag with * from client over IPv6: sent", "error 4/1 to client", "forwarded to pod"),
    // An association begins with INIT (RFC 9260 section 5.1); what belongs to none is dropped by name. The kernel takes up
    // heartbeats and SHUTDOWN ACK as well, which here would be for another pod than before.
    differs("without association * over IPv4: *", "error 3/2 to client", "dropped"),
    differs("without association * over IPv6: *", "error 4/1 to client", "dropped"),
    differs("out of the blue * over IPv*: *", "forwarded to pod", "dropped"),
    // Chunks that may not be bundled, and tags that no such chunk has (RFC 9260 sections 6.10, 8.5.1), are dropped by
    // name.
    differs("bundle * over IPv4: sent", "error 3/2 to client", "dropped"),
    differs("bundle * over IPv6: sent", "error 4/1 to client", "dropped"),
    // The same of chunks whose lengths cannot be. Of a length the kernel asks only that it is not 0, and it stops where the
    // next chunk would lie past the end.
    differs("broken chunks over IPv4: none", "error 3/2 to client", "dropped"),
    differs("broken chunks over IPv6: none", "error 4/1 to client", "dropped"),
    differs("broken chunks over IPv4: a second one of length 0", "error 3/2 to client", "dropped"),
    differs("broken chunks over IPv6: a second one of length 0", "error 4/1 to client", "dropped"),
    differs("broken chunks over IPv*: shorter than its header", "forwarded to pod", "dropped"),
    differs("broken chunks over IPv*: longer than its packet", "forwarded to pod", "dropped"),
];

/// With SNAT.
pub(crate) const CLIENTS: &[Difference] = &[
    // As what clients send: checksums are the receiver's to verify, and no windows are tracked.
    differs("datagrams over IPv*: wrong sum from pod", "dropped", "forwarded to client"),
    differs(
        "wrong TCP sum in a connection over IPv*: data from pod with a wrong sum",
        "dropped",
        "forwarded to client",
    ),
    differs("out of window over IPv*: data from pod far off", "reset to pod", "forwarded to client"),
    // What a pod sends to a pool address without a flow is dropped by name. The kernel knows no pool: the address is
    // one without a host.
    differs("pod without flow over IPv4*", "error 3/0 to pod", "dropped"),
    differs("pod without flow over IPv6*", "error 1/0 to pod", "dropped"),
    differs("pod's datagram without flow over IPv4*", "error 3/0 to pod", "dropped"),
    differs("pod's datagram without flow over IPv6*", "error 1/0 to pod", "dropped"),
    differs("pod without association over IPv4*", "error 3/0 to pod", "dropped"),
    differs("pod without association over IPv6*", "error 1/0 to pod", "dropped"),
    // As what clients send.
    differs("another tag with * from pod over IPv4: sent", "error 3/2 to pod", "forwarded to client"),
    differs("another tag with * from pod over IPv6: sent", "error 4/1 to pod", "forwarded to client"),
    differs("wrong CRC in an association over IPv4: pod's *", "error 3/2 to pod", "forwarded to client"),
    // Where the tunnel's own sum was right, the kernel does not look at the CRC inside; it computes it again for what it translates,
    // and so makes a wrong CRC right.
    differs("wrong CRC in an association over IPv6: pod's *", "forwarded to client", "forwarded to client"),
    // Options go along unchanged and unread; routes are neither recorded nor followed, which would show clients the
    // overlay or let them choose a path through it (docs/rfc.md, RFC 791).
    differs("headers with more over IPv4: option record route", "forwarded to pod", "forwarded to pod"),
    differs("headers with more over IPv4: option loose source route", "dropped", "forwarded to pod"),
    // A header that contradicts itself is dropped, whichever field does, and its sender hears nothing (docs/decisions.md).
    differs("headers with more over IPv4: option a broken length", "error 12/0 to client", "dropped"),
    // A source that is one of the gateway's own addresses is spoofed. The kernel checks that over IPv4 alone.
    differs("source gateway over IPv6: request", "forwarded to pod", "dropped"),
];

/// With preserved sources.
pub(crate) const PRESERVED: &[Difference] = &[
    // As what clients send: checksums are the receiver's to verify, and no windows are tracked. The kernel does not
    // drop what it cannot track; it forwards it with the pod's own address, which the client has not asked.
    differs("datagrams over IPv*: wrong sum from pod", "forwarded to client", "forwarded to client"),
    differs(
        "wrong TCP sum in a connection over IPv*: data from pod with a wrong sum",
        "forwarded to client",
        "forwarded to client",
    ),
    differs("out of window over IPv*: data from pod far off", "forwarded to client", "forwarded to client"),
    differs("another tag with * from pod over IPv*: sent", "forwarded to client", "forwarded to client"),
    differs("wrong CRC in an association over IPv*: pod's *", "forwarded to client", "forwarded to client"),
    // What a backend sends without a flow is dropped by name: nobody outside has asked it. The kernel forwards it as any
    // router would.
    differs("pod without flow over IPv*", "forwarded to client", "dropped"),
    differs("pod's datagram without flow over IPv*", "forwarded to client", "dropped"),
    differs("pod without association over IPv*", "forwarded to client", "dropped"),
    // The same of errors that do not sum up or that are about none of its packets (RFC 5508 REQ-3, REQ-4).
    differs("errors about * over IPv4: wrong sum", "error 3/3 to client", "dropped"),
    differs("errors about * over IPv6: wrong sum", "error 1/4 to client", "dropped"),
    differs("errors about * over IPv4: about an error", "error 3/3 to client", "dropped"),
    differs("errors about * over IPv6: about an error", "error 1/4 to client", "dropped"),
];

/// In pods' own traffic.
pub(crate) const PODS: &[Difference] = &[
    // As towards services: checksums are the receiver's to verify. The kernel does not drop what it
    // cannot track; it forwards it with the pod's own address.
    differs("pod: datagrams over IPv*: wrong sum", "forwarded to client", "forwarded to client"),
    differs("pod: association over IPv4: client's DATA with a wrong CRC", "error 3/2 to client", "forwarded to pod"),
    differs("pod: association over IPv6: client's DATA with a wrong CRC", "error 4/1 to client", "forwarded to pod"),
    differs("pod: association over IPv4: ABORT with another tag", "error 3/2 to client", "forwarded to pod"),
    differs("pod: association over IPv6: ABORT with another tag", "error 4/1 to client", "forwarded to pod"),
    differs("pod: association over IPv*: pod's DATA with a wrong CRC", "forwarded to client", "forwarded to client"),
    // RFC 8200 section 8.1, as towards services.
    differs("pod: datagrams over IPv6: not summed", "forwarded to client", "dropped"),
    // Fragments are forwarded as they come, as towards services.
    differs("pod: fragments over IPv6: an answer in *", "forwarded to pod", "forwarded to pod"),
    // Unsolicited packets to a masquerade address are dropped by name. The kernel takes them for its own host,
    // which answers; whoever probes the address learns nothing from weirgate.
    differs("pod: nobody asked for A over IPv*: A from client", "reset to client", "dropped"),
    differs("pod: nobody asked for S over IPv*: S from client", "reset to client", "dropped"),
    differs("pod: nobody asked for SA over IPv*: SA from client", "reset to client", "dropped"),
    differs("pod: no association for * over IPv4: * from client", "error 3/2 to client", "dropped"),
    differs("pod: no association for * over IPv6: * from client", "error 4/1 to client", "dropped"),
    differs("pod: nobody asked over IPv4: answer", "error 3/3 to client", "dropped"),
    differs("pod: nobody asked over IPv6: answer", "error 1/4 to client", "dropped"),
    // Of ICMP queries only pings open a flow (RFC 5508 REQ-1; docs/rfc.md); RFC 6918 deprecates others.
    differs("pod: nobody asked over IPv4: timestamp request", "forwarded to client", "dropped"),
    // A reply without a request belongs to no flow. The kernel forwards it with the pod's own address.
    differs("pod: ping over IPv*: reply from pod", "forwarded to client", "dropped"),
    // A connection begins with a SYN, as towards services.
    differs("pod: without flow A over IPv*: A from pod", "forwarded to client", "dropped"),
    differs("pod: without association DATA over IPv*: DATA from pod", "forwarded to client", "dropped"),
];
