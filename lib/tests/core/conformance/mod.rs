//! What RFCs require of the whole gateway, one test per requirement; docs/rfc.md lists them.

mod echo;
mod helpers;
mod icmp;
mod ip;
mod known_failures;
mod nat;
mod tunnel;
