//! Root with the capabilities that a container has, of which Docker's default leaves most out.

use std::process::Command;

use model::outcome::OutcomeKind;

use crate::support::{REPORT, can_be_another, harness, newest_postgres, open_directory, ran, skipped, toolchain};

/// What Docker leaves root in a container (its documentation, "Runtime privilege and Linux capabilities"). Without `sys_ptrace`, processes
/// of other users don't show where they work.
const OF_A_CONTAINER: &str = "--bounding-set=-all,+audit_write,+chown,+dac_override,+fowner,+fsetid,+kill,+mknod,+net_bind_service,\
                              +net_raw,+setfcap,+setgid,+setpcap,+setuid,+sys_chroot";

/// Timelines in which all processes of a server must be found, those of a server of each kind, and of a gateway.
const TIMELINES: [&str; 4] = ["faults/paused-server", "faults/killed-server", "faults/paused-redis", "faults/gateway"];

#[test]
fn faults_reach_every_process_of_a_server() {
    let Some(postgres) = newest_postgres() else { return };
    let toolchain = toolchain();
    if !can_be_another() {
        return;
    }
    if toolchain.redis.is_none() || toolchain.haproxy.is_none() {
        return skipped("no Redis or no HAProxy is installed; `make setup` brings them");
    }
    let directory = open_directory();
    let major = postgres.major.to_string();
    let more = ["--postgres", &major, "--driver", "rustls,redis-rs"];
    let run = harness(directory.path(), &[&["run"], &TIMELINES[..], &more, &REPORT].concat());
    let mut command = Command::new("setpriv");
    command.arg(OF_A_CONTAINER).arg(run.get_program()).args(run.get_args()).current_dir(directory.path());
    command.envs(run.get_envs().filter_map(|(name, value)| Some((name, value?))));
    let ran = ran(directory.path(), command);
    assert_eq!(ran.code, 0, "{}", ran.said);
    assert_eq!(ran.report.totals.outcomes[&OutcomeKind::Pass], TIMELINES.len(), "{}", ran.said);
}
