//! A relay for clients in this container.

use std::io;
use std::sync::Arc;
use std::time::Duration;

use tokio::net::TcpStream;

use super::super::line;
use super::super::protocol::{Failure, Opened, RelayRequest, RelaySpec};
use super::answer::{refuse, reply};
use os::dial::Direct;
use wire::{Relay, RelayOptions};

pub(super) async fn open(mut stream: TcpStream, relay: RelaySpec) -> io::Result<()> {
    let RelaySpec { upstream, source, listen, service } = relay;
    let options = RelayOptions { dialer: Arc::new(Direct), upstream, source, listen, service, faults: Vec::new() };
    let relay = match Relay::open(options).await {
        Ok(relay) => relay,
        Err(error) => {
            let cause = std::error::Error::source(&error);
            let errno = cause.and_then(|cause| cause.downcast_ref::<io::Error>()).and_then(io::Error::raw_os_error);
            return refuse(&mut stream, Failure { message: error.to_string(), errno }).await;
        }
    };
    reply(&mut stream, Ok(Opened { address: relay.address() })).await?;
    loop {
        match line::receive(&mut stream).await? {
            RelayRequest::Upstreams => reply(&mut stream, Ok(relay.upstreams())).await?,
            RelayRequest::Finish { limit_ms } => {
                let trace = relay.finish(Duration::from_millis(limit_ms)).await;
                return reply(&mut stream, Ok(trace)).await;
            }
        }
    }
}
