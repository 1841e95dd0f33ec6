//! What RFCs ask of the whole gateway, one test a requirement; docs/rfc.md lists them.

mod echo;
mod helpers;
mod icmp;
mod ip;
mod known_failures;
mod nat;
mod tunnel;
