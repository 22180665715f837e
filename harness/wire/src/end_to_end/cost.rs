//! What a relay costs a connection: a measurement that is run by hand.

use std::io::{self, Read, Write};
use std::time::{Duration, Instant};

use super::{LIMIT, echo, options, relay, server};

/// Prints what the relay costs a connection. `cargo test -p wire relay_costs -- --ignored --nocapture`
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "a measurement, not a test"]
async fn relay_costs() {
    const CONNECTIONS: usize = 4000;
    let (address, server) = server(2 * CONNECTIONS, |mut stream, _| {
        let mut byte = [0; 1];
        stream.read_exact(&mut byte).and_then(|()| stream.write_all(&byte)).expect("echoed");
        assert_eq!(stream.read(&mut byte).expect("an orderly end"), 0);
    });
    let relay = relay(options(address)).await;
    for (name, at) in [("without", address), ("with", relay.address())] {
        let before = processor_time();
        let start = Instant::now();
        tokio::task::spawn_blocking(move || (0..CONNECTIONS).for_each(|_| echo(at))).await.expect("the client");
        let (took, spent) = (start.elapsed(), processor_time() - before);
        let each = |time: Duration| time.as_secs_f64() * 1000.0 / CONNECTIONS as f64;
        let line = format!("{name} relay: {:.3} ms a connection, {:.3} ms processor time\n", each(took), each(spent));
        io::stderr().write_all(line.as_bytes()).expect("standard error");
    }
    relay.finish(LIMIT).await;
    server.join().expect("the server");
}

/// Of this whole process, user and system.
fn processor_time() -> Duration {
    let usage = nix::sys::resource::getrusage(nix::sys::resource::UsageWho::RUSAGE_SELF).expect("usage");
    let time = |value: nix::sys::time::TimeVal| {
        Duration::new(u64::try_from(value.tv_sec()).expect("positive"), 0)
            + Duration::from_micros(u64::try_from(value.tv_usec()).expect("positive"))
    };
    time(usage.user_time()) + time(usage.system_time())
}
