//! A TLS-passthrough gateway's configuration for HAProxy 2.4 and later.
//!
//! What it does is what the Gateway API says of a TLSRoute on a listener in mode Passthrough: the host name in the ClientHello decides, and
//! whatever is no ClientHello, has no host name or one that no route takes is closed before anything is connected. TLS is ended nowhere.

use std::fmt::Write as _;
use std::net::{IpAddr, SocketAddr};

use super::gateway::TlsRoute;

/// A listener of the gateway on this machine.
#[derive(Debug, Clone, Copy)]
pub struct HaproxyListener<'a> {
    /// The route behind it.
    pub route: &'a TlsRoute,
    /// The addresses that it listens on.
    pub listen: &'a [IpAddr],
    /// Its port, in place of the route's.
    pub port: u16,
    /// The server that the gateway connects to.
    pub upstream: SocketAddr,
}

/// The file. `source` is the gateway's own address, which the servers see.
///
/// The log goes to standard output: for each connection one line of JSON, as soon as it is passed on or at its end where it is not, with the
/// client's address, the address that the server saw, the two letters of the termination state (HAProxy manual, "Session state at disconnection") and the host name.
#[must_use]
pub fn render(listeners: &[HaproxyListener<'_>], source: IpAddr) -> String {
    let mut text = String::from(
        "# Written by mtls-conformance from the deployment's TLSRoutes.\n\
         global\n    \
         log stdout format raw daemon\n    \
         # A thread that finds others writing to standard output gives its line up after a few tries (src/fd.c).\n    \
         nbthread 1\n\n\
         defaults\n    \
         mode tcp\n    \
         log global\n    \
         # Not only at a connection's end: one that lasts, or is cut by a restart, has its line too.\n    \
         option logasap\n    \
         timeout connect 5s\n    \
         timeout client 1h\n    \
         timeout server 1h\n    \
         # A server that is away is told at once.\n    \
         retries 0\n",
    );
    for HaproxyListener { route, listen, port, upstream } in listeners {
        let name = &route.name;
        let binds: String = listen.iter().fold(String::new(), |mut binds, address| {
            // Writing to a String can't fail.
            let _ = writeln!(binds, "    bind {}", SocketAddr::new(*address, *port));
            binds
        });
        let hosts = route.hosts.join(" ");
        let _ = write!(
            text,
            "\nfrontend {name}\n{binds}    \
             # A client that says nothing is waited for; one that speaks is judged at once.\n    \
             tcp-request inspect-delay 5s\n    \
             tcp-request content capture req.ssl_sni len 255\n    \
             tcp-request content reject unless {{ req.ssl_hello_type 1 }}\n    \
             acl routed req.ssl_sni -i {hosts}\n    \
             tcp-request content reject unless routed\n    \
             use_backend {name} if routed\n    \
             log-format '{{\"client\":\"%ci\",\"client_port\":\"%cp\",\"source\":\"%bi\",\"source_port\":\"%bp\",\"state\":\"%ts\",\
             \"sni\":\"%[capture.req.hdr(0)]\"}}'\n\
             \nbackend {name}\n    \
             source {source}\n    \
             server {backend} {upstream}\n",
            backend = route.backend,
        );
    }
    text
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::*;
    use load::Place;
    use model::server::Service;

    #[test]
    fn a_listener_takes_the_routes_host_names_only_and_ends_no_tls() {
        let route = TlsRoute {
            name: "nautobot-db".to_owned(),
            service: Service::Postgres,
            hosts: vec!["db.one.example.com".to_owned(), "db.two.example.com".to_owned()],
            port: 5432,
            backend: "nautobot-cluster-rw".to_owned(),
            place: Place::file(Path::new("x")),
        };
        let listen = ["127.0.0.1".parse().expect("an address"), "::1".parse().expect("an address")];
        let upstream = "127.0.0.1:20000".parse().expect("an address");
        let text = render(
            &[HaproxyListener { route: &route, listen: &listen, port: 10_000, upstream }],
            "127.77.0.1".parse().expect("an address"),
        );
        for line in [
            "bind 127.0.0.1:10000",
            "bind [::1]:10000",
            "acl routed req.ssl_sni -i db.one.example.com db.two.example.com",
            "use_backend nautobot-db if routed",
            "source 127.77.0.1",
            "server nautobot-cluster-rw 127.0.0.1:20000",
        ] {
            assert!(text.lines().any(|found| found.trim() == line), "{line:?} in {text}");
        }
        assert!(!text.contains(" ssl"), "{text}");
        assert!(!text.contains("default_backend"), "{text}");
    }
}
