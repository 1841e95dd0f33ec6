//! How long flows may idle, as who configures a gateway says it.

/// Idle times, in whole seconds. The defaults are Linux's, but for TCP while open and closed from one side (as
/// kube-proxy sets them), after one FIN (RFC 7857 §2.1), after a reset, UDP (RFC 4787 REQ-5), and ICMP (RFC 5508
/// REQ-2).
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Timeouts {
    /// TCP after the client's SYN.
    pub tcp_syn_sent_seconds: u32,
    /// TCP after the answer to it, until the client acknowledges that.
    pub tcp_syn_received_seconds: u32,
    /// TCP while open (RFC 5382 REQ-5: 7440 or more).
    pub tcp_established_seconds: u32,
    /// TCP after one side's FIN, until the other acknowledges it; never longer than while open (RFC 6146 §3.5.2.2:
    /// no less than the 7440 that a NAT owes an open connection).
    pub tcp_fin_wait_seconds: u32,
    /// TCP after one side's FIN was acknowledged: the other may go on sending.
    pub tcp_close_wait_seconds: u32,
    /// TCP after both sides' FINs.
    pub tcp_last_ack_seconds: u32,
    /// TCP after the last acknowledgement.
    pub tcp_time_wait_seconds: u32,
    /// TCP after a reset, until both sides show that it goes on (RFC 7857 §2.2: 240).
    pub tcp_reset_seconds: u32,
    /// TCP after a SYN of both sides.
    pub tcp_syn_sent2_seconds: u32,
    /// UDP until the client has answered an answer (RFC 4787 REQ-5: 120 or more).
    pub udp_seconds: u32,
    /// UDP from then on.
    pub udp_stream_seconds: u32,
    /// Echo requests and their answers (RFC 5508 REQ-2: 60 or more).
    pub icmp_seconds: u32,
    /// SCTP after the client's INIT.
    pub sctp_cookie_wait_seconds: u32,
    /// SCTP after the client's cookie.
    pub sctp_cookie_echoed_seconds: u32,
    /// SCTP while open.
    pub sctp_established_seconds: u32,
    /// SCTP that the client shuts down.
    pub sctp_shutdown_sent_seconds: u32,
    /// SCTP that the server shuts down.
    pub sctp_shutdown_received_seconds: u32,
    /// SCTP whose shutdown was acknowledged.
    pub sctp_shutdown_ack_sent_seconds: u32,
    /// SCTP after its end.
    pub sctp_closed_seconds: u32,
}

impl Timeouts {
    /// TCP after one side's FIN, until the other acknowledges it: never longer than while open.
    pub(super) const fn fin_wait_seconds(&self) -> u32 {
        let (fin_wait, open) = (self.tcp_fin_wait_seconds, self.tcp_established_seconds);
        if fin_wait < open { fin_wait } else { open }
    }
}

impl Default for Timeouts {
    fn default() -> Self {
        Self {
            tcp_syn_sent_seconds: 120,
            tcp_syn_received_seconds: 60,
            tcp_established_seconds: 86_400,
            tcp_fin_wait_seconds: 7440,
            tcp_close_wait_seconds: 3600,
            tcp_last_ack_seconds: 30,
            tcp_time_wait_seconds: 120,
            tcp_reset_seconds: 240,
            tcp_syn_sent2_seconds: 120,
            udp_seconds: 120,
            udp_stream_seconds: 300,
            icmp_seconds: 60,
            sctp_cookie_wait_seconds: 3,
            sctp_cookie_echoed_seconds: 3,
            sctp_established_seconds: 210,
            sctp_shutdown_sent_seconds: 3,
            sctp_shutdown_received_seconds: 3,
            sctp_shutdown_ack_sent_seconds: 3,
            sctp_closed_seconds: 10,
        }
    }
}
