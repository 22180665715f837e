//! The labels that say whose a container, a network or a volume is.

use std::collections::HashMap;

use crate::os::owner::Owner;

/// The run's id: everything that a run makes has it.
pub(super) const RUN: &str = "mtls-conformance.run";

/// The image's reference, for people: containers are started from its id.
pub(super) const IMAGE: &str = "mtls-conformance.image";

/// The harness's process.
const PID: &str = "mtls-conformance.pid";

/// When that process started, in the kernel's ticks since boot: a number that is in use again has another.
const PID_START: &str = "mtls-conformance.pid-start";

/// The boot of the kernel under which it ran.
const BOOT: &str = "mtls-conformance.boot";

/// The namespace of its number, and the host's name: elsewhere nobody can tell whether it lives.
const PID_NAMESPACE: &str = "mtls-conformance.pid-namespace";
const HOST: &str = "mtls-conformance.host";

impl Owner {
    /// The one that labels name; `None` if they are not complete.
    pub(super) fn of(labels: &HashMap<String, String>) -> Option<Self> {
        let label = |name: &str| labels.get(name).cloned();
        Some(Self { pid: label(PID)?, start: label(PID_START)?, boot: label(BOOT)?, namespace: label(PID_NAMESPACE)?, host: label(HOST)? })
    }

    /// The labels of a run that is this process's.
    pub(super) fn labels(&self, run: &str) -> HashMap<String, String> {
        [(RUN, run), (PID, &self.pid), (PID_START, &self.start), (BOOT, &self.boot), (PID_NAMESPACE, &self.namespace), (HOST, &self.host)]
            .map(|(name, value)| (name.to_owned(), value.to_owned()))
            .into()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_labels_of_a_run_name_its_process_and_others_name_none() {
        let owner = Owner::current().expect("/proc");
        assert_eq!(Owner::of(&owner.labels("run")).as_ref(), Some(&owner));
        assert_eq!(Owner::of(&HashMap::from([(RUN.to_owned(), "run".to_owned())])), None, "incomplete labels");
    }
}
