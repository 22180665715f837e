//! Names in timelines against the manifests: a change of something that isn't there is found before anything runs.

use std::collections::BTreeMap;

use super::lacking::Found;
use deployment::Manifests;
use load::{LoadError, Place, ScenarioSet, nearest};
use model::change::{Change, Named};
use model::text::Text;

/// Every name that the manifests don't know, and every `NAME@N` that is never issued in its timeline, with its place. Those that hold
/// `${axis}` are left to the run.
pub(super) fn check(set: &ScenarioSet, manifests: &Manifests) -> Vec<Found> {
    let mut errors = Vec::new();
    for loaded in &set.scenarios {
        let Some(timeline) = &loaded.scenario.timeline else { continue };
        let mut names = Names::new(manifests);
        let mut check = |checked: Result<(), NameError>, text: &Text| {
            errors.extend(checked.err().map(|error| {
                let lacks = if let NameError::Unknown { name, .. } = &error { Some(name.clone()) } else { None };
                Found { error: LoadError::new(Place::at(&loaded.file, text.place()), error.to_string()), lacks }
            }));
        };
        let setup = std::iter::once((&timeline.setup, None));
        for (changes, expect) in setup.chain(timeline.phases.iter().map(|phase| (&phase.changes, Some(&phase.expect)))) {
            for change in changes {
                change.names().into_iter().for_each(|(named, text)| check(names.check(named, &text.raw()), text));
                names.follow(change);
            }
            for text in expect.into_iter().flatten().filter_map(|row| row.value.server_certificate.as_ref()) {
                check(names.check(Named::Issued, &text.raw()), text);
            }
        }
    }
    errors
}

/// What a name in a timeline can't be the name of.
#[derive(Debug, thiserror::Error)]
enum NameError {
    #[error("unknown {kind} `{name}`{near}")]
    Unknown { kind: &'static str, name: String, near: String },
    #[error("`{name}`: what stands behind `@` is a number from 1, as in `{certificate}@1`, the first that was issued")]
    NoNumber { name: String, certificate: String },
    #[error("`{name}` is not issued by then: so far there {so_far} (each `renew`, `rekey` and `delete_secret` adds one)")]
    NotIssued { name: String, so_far: String },
}

/// What can be named at a moment of a timeline.
struct Names<'a> {
    manifests: &'a Manifests,
    /// How often each Certificate was issued so far beside the first time.
    reissued: BTreeMap<&'a str, usize>,
    /// Reissues whose Certificate depends on an axis: it can be any.
    reissued_by_axis: usize,
}

impl<'a> Names<'a> {
    fn new(manifests: &'a Manifests) -> Self {
        Self { manifests, reissued: BTreeMap::new(), reissued_by_axis: 0 }
    }

    fn check(&self, named: Named, raw: &str) -> Result<(), NameError> {
        if raw.contains("${") {
            return Ok(());
        }
        let certificates = self.manifests.certificates.iter();
        let (kind, name, known): (_, _, Vec<&str>) = match named {
            Named::Secret => ("Secret", raw, certificates.map(|certificate| certificate.spec.secret_name.as_str()).collect()),
            Named::Certificate => ("Certificate", raw, certificates.map(|certificate| certificate.name.as_str()).collect()),
            Named::Issued => {
                let name = raw.split_once('@').map_or(raw, |(name, _)| name);
                ("Certificate", name, certificates.map(|certificate| certificate.name.as_str()).collect())
            }
        };
        if !known.contains(&name) {
            let near = nearest(name, known.iter().copied());
            let near = if near.is_empty() { format!(": the manifests have {}", known.join(", ")) } else { near };
            return Err(NameError::Unknown { kind, name: name.to_owned(), near });
        }
        match raw.split_once('@') {
            Some((certificate, number)) if matches!(named, Named::Issued) => self.check_issue(raw, certificate, number),
            _ => Ok(()),
        }
    }

    fn check_issue(&self, name: &str, certificate: &str, number: &str) -> Result<(), NameError> {
        let number: usize = number
            .parse()
            .ok()
            .filter(|number| *number > 0)
            .ok_or_else(|| NameError::NoNumber { name: name.to_owned(), certificate: certificate.to_owned() })?;
        let issued = 1 + self.reissued.get(certificate).copied().unwrap_or_default();
        if number <= issued + self.reissued_by_axis {
            return Ok(());
        }
        let so_far =
            if issued == 1 { format!("is only `{certificate}@1`") } else { format!("are `{certificate}@1` to `{certificate}@{issued}`") };
        Err(NameError::NotIssued { name: name.to_owned(), so_far })
    }

    /// Counts what the change issues, as [`pki::CertManager`] does.
    fn follow(&mut self, change: &Change<Text>) {
        let (by_secret, name) = match change {
            Change::Renew(reissue) | Change::Rekey(reissue) => (false, reissue.certificate.raw()),
            Change::DeleteSecret(secret) => (true, secret.raw()),
            _ => return,
        };
        if name.contains("${") {
            self.reissued_by_axis += 1;
        }
        let certificate = self.manifests.certificates.iter().find(|certificate| {
            let own = if by_secret { &certificate.spec.secret_name } else { &certificate.name };
            *own == name
        });
        if let Some(certificate) = certificate {
            *self.reissued.entry(&certificate.name).or_default() += 1;
        }
    }
}
