//! The labels that say whose a container, a network or a volume is.

use std::collections::HashMap;

use os::owner::Owner;

/// The run's id: everything that a run makes has it.
pub(super) const RUN: &str = "mtls-conformance.run";

/// The image's reference, for people: containers are started from its id.
pub(super) const IMAGE: &str = "mtls-conformance.image";

/// The id of the harness's process, in its own namespace.
const PID: &str = "mtls-conformance.pid";

/// When that process started, in the kernel's ticks since boot: a number that is in use again has another.
const PID_START: &str = "mtls-conformance.pid-start";

/// The boot of the kernel under which it ran.
const BOOT: &str = "mtls-conformance.boot";

/// The namespace of its number, and the host's name: elsewhere nobody can tell whether it lives.
const PID_NAMESPACE: &str = "mtls-conformance.pid-namespace";
const HOST: &str = "mtls-conformance.host";

/// The process that labels name; `None` if they are not complete.
pub(super) fn owner(labels: &HashMap<String, String>) -> Option<Owner> {
    let label = |name: &str| labels.get(name).cloned();
    Some(Owner { pid: label(PID)?, start: label(PID_START)?, boot: label(BOOT)?, namespace: label(PID_NAMESPACE)?, host: label(HOST)? })
}

/// The labels of what a run makes that belongs to `owner`.
pub(super) fn of_run(run: &str, owner: &Owner) -> HashMap<String, String> {
    [(RUN, run), (PID, &owner.pid), (PID_START, &owner.start), (BOOT, &owner.boot), (PID_NAMESPACE, &owner.namespace), (HOST, &owner.host)]
        .map(|(name, value)| (name.to_owned(), value.to_owned()))
        .into()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_labels_of_a_run_name_its_process_and_others_name_none() {
        let process = Owner::current().expect("/proc");
        assert_eq!(owner(&of_run("run", &process)).as_ref(), Some(&process));
        assert_eq!(owner(&HashMap::from([(RUN.to_owned(), "run".to_owned())])), None, "incomplete labels");
    }
}
