//! Free TCP ports. Servers here can't take port 0 and report it, so one is looked for beforehand; whoever starts a server with it must be
//! ready to try another.

use std::collections::hash_map::RandomState;
use std::hash::BuildHasher as _;
use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, TcpListener};
use std::sync::Arc;

/// Gives ports to try.
pub type PortSource = Arc<dyn Fn(&[IpAddr]) -> io::Result<u16> + Send + Sync>;

/// Tries before giving up on ports below the ephemeral range.
const TRIES: u64 = 200;

/// The lowest port taken: below are too many well-known ones.
const LOWEST: u16 = 10_240;

/// The loopback addresses of this machine: `127.0.0.1`, and `::1` where there is one.
#[must_use]
pub fn loopback() -> Vec<IpAddr> {
    let mut addresses = vec![IpAddr::V4(Ipv4Addr::LOCALHOST)];
    if TcpListener::bind((Ipv6Addr::LOCALHOST, 0)).is_ok() {
        addresses.push(IpAddr::V6(Ipv6Addr::LOCALHOST));
    }
    addresses
}

/// A port that is free on all these addresses now.
///
/// It lies below the range that the kernel takes clients' ports from, if it can: a port of that range could become the local end of
/// somebody's connection while a server restarts.
///
/// # Errors
/// Those of bind(2).
pub fn free_port(addresses: &[IpAddr]) -> io::Result<u16> {
    let highest = ephemeral_start().unwrap_or(0);
    if let Some(span) = highest.checked_sub(LOWEST).filter(|span| *span > 0) {
        let random = RandomState::new();
        for attempt in 0..TRIES {
            let offset = random.hash_one(attempt) % u64::from(span);
            let port = LOWEST + u16::try_from(offset).unwrap_or(0);
            if addresses.iter().all(|address| TcpListener::bind((*address, port)).is_ok()) {
                return Ok(port);
            }
        }
    }
    let mut last = io::Error::from(io::ErrorKind::AddrInUse);
    for _ in 0..16 {
        let listener = TcpListener::bind((addresses.first().copied().unwrap_or(IpAddr::V4(Ipv4Addr::LOCALHOST)), 0))?;
        let port = listener.local_addr()?.port();
        let others: io::Result<Vec<TcpListener>> = addresses.iter().skip(1).map(|address| TcpListener::bind((*address, port))).collect();
        match others {
            Ok(_) => return Ok(port),
            Err(error) => last = error,
        }
    }
    Err(last)
}

/// The first port of the kernel's range for clients.
fn ephemeral_start() -> Option<u16> {
    std::fs::read_to_string("/proc/sys/net/ipv4/ip_local_port_range").ok()?.split_whitespace().next()?.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_free_port_can_be_bound_on_every_address_and_is_no_clients_port() {
        let addresses = loopback();
        let port = free_port(&addresses).expect("a port");
        assert!(addresses.iter().all(|address| TcpListener::bind((*address, port)).is_ok()));
        assert!(ephemeral_start().is_none_or(|start| start <= LOWEST || port < start));
    }

    #[test]
    fn ports_differ_from_call_to_call() {
        let addresses = loopback();
        let ports: std::collections::BTreeSet<u16> = (0..8).map(|_| free_port(&addresses).expect("a port")).collect();
        assert!(ports.len() > 1, "{ports:?}");
    }
}
