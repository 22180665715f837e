//! Names in timelines against the manifests: a change of something that isn't there is found before anything runs.

use deployment::Manifests;
use load::{LoadError, Place, ScenarioSet, nearest};
use model::change::{Change, Named};
use model::text::Text;

/// Every name that the manifests don't know, with its place. Those that hold `${axis}` are left to the run.
pub(super) fn check(set: &ScenarioSet, manifests: &Manifests) -> Vec<LoadError> {
    let certificates: Vec<&str> = manifests.certificates.iter().map(|certificate| certificate.name.as_str()).collect();
    let secrets: Vec<&str> = manifests.certificates.iter().map(|certificate| certificate.spec.secret_name.as_str()).collect();
    let mut errors = Vec::new();
    for loaded in &set.scenarios {
        let Some(timeline) = &loaded.scenario.timeline else { continue };
        let changes = timeline.setup.iter().chain(timeline.phases.iter().flat_map(|phase| &phase.changes));
        for (named, text) in changes.flat_map(Change::<Text>::names).filter(|(_, text)| !text.raw().contains("${")) {
            let raw = text.raw();
            let (kind, known, name) = match named {
                Named::Secret => ("Secret", &secrets, raw.as_str()),
                Named::Certificate => ("Certificate", &certificates, raw.as_str()),
                Named::Issued => ("Certificate", &certificates, raw.split('@').next().unwrap_or_default()),
            };
            if !known.contains(&name) {
                let near = nearest(name, known.iter().copied());
                let all = if near.is_empty() { format!(": the manifests have {}", known.join(", ")) } else { near };
                errors.push(LoadError::new(Place::at(&loaded.file, text.place()), format!("unknown {kind} `{name}`{all}")));
            }
        }
    }
    errors
}
