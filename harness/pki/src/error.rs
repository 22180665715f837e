//! Why a credential could not be made.

use std::io;
use std::path::PathBuf;
use std::sync::Arc;

use super::site::filter_pem::FoundJunk;
use deployment::certificate::KeySizeError;
use deployment::template::TemplateError;
use load::Place;
use model::credential::SecretFile;
use model::duration::DurationError;

/// A credential could not be made. It is kept and given again where the credential is asked for again.
#[derive(Debug, Clone, thiserror::Error)]
pub enum PkiError {
    /// A name that nothing has.
    #[error("there is no {kind} `{name}`: {known}")]
    Unknown {
        /// `identity`, `trust`, `CRL`, `Secret`, `Certificate`, `issue of the Certificate`, `authority or Issuer`.
        kind: &'static str,
        /// The name as it stands in the scenario or the manifests.
        name: String,
        /// The names that there are.
        known: String,
    },
    /// A variant that contradicts itself or the manifests.
    #[error("{what}: {source}")]
    Invalid {
        /// Which credential, such as `identity `expired``.
        what: String,
        /// What is wrong, and what is allowed.
        source: Box<InvalidCause>,
    },
    /// The crypto library refused.
    #[error("{what} could not be issued: {source}")]
    Issue {
        /// Which credential, as in [`PkiError::Invalid`].
        what: String,
        /// The step that failed, with the words of its library.
        source: IssueCause,
    },
    /// A file could not be read.
    #[error("{path} could not be read: {source}", path = path.display())]
    Read {
        /// The file or directory as it was to be opened or made.
        path: PathBuf,
        /// The operating system's reason.
        source: Arc<io::Error>,
    },
    /// A file could not be written.
    #[error("{path} could not be written: {source}; is the file system full or read-only?", path = path.display())]
    Write {
        /// The file or directory as it was to be opened or made.
        path: PathBuf,
        /// The operating system's reason.
        source: Arc<io::Error>,
    },
}

/// What contradicts itself or the manifests.
#[derive(Debug, Clone, thiserror::Error)]
pub enum InvalidCause {
    /// `privateKey.size` is none of its algorithm.
    #[error(transparent)]
    KeySize(#[from] KeySizeError),
    /// `key_mode` of an identity is no mode.
    #[error("`{0}` is no octal file mode, such as \"0600\"")]
    KeyMode(String),
    /// `duration` of a Certificate is none.
    #[error(transparent)]
    Duration(#[from] DurationError),
    /// A certificate of this `duration` would end after the last moment that this machine's clock knows.
    #[error("the duration is too long")]
    DurationTooLong,
    /// One end of a `validity` is no offset from now.
    #[error("{field}: {source}")]
    Offset {
        /// The end that it is of: `not_before` or `not_after`.
        field: &'static str,
        /// What was found there.
        source: DurationError,
    },
    /// A `validity` begins or ends where no certificate can.
    #[error("the validity is out of range: the years 1970 to 9999 are allowed")]
    OutOfRange,
    /// A `validity` ends before it begins.
    #[error("not_before ({not_before}) must be earlier than not_after ({not_after})")]
    EndsFirst {
        /// As it stands in the scenario.
        not_before: String,
        /// As it stands in the scenario.
        not_after: String,
    },
    /// Several organizations, or the like: a field of a Certificate's `subject`.
    #[error("subject.{0} has several values: one is interpreted by the local environment")]
    SeveralValues(&'static str),
    /// What a patch makes of a Certificate is no Certificate's `spec`.
    #[error("its patch on `{certificate}` does not fit a Certificate's spec: {source}")]
    Patch {
        /// The Certificate that is patched.
        certificate: String,
        /// The field, and what was expected there.
        source: Arc<serde_json::Error>,
    },
    /// A renewal was to change the key's form.
    #[error("its patch changes privateKey, but `renew` keeps the key: write `rekey`")]
    PatchedKey,
    /// A patch was to make a Certificate write another Secret.
    #[error("its patch changes secretName: that a Certificate writes another Secret is not followed")]
    PatchedSecretName,
    /// A Secret was to be overwritten with certificates, and none is named.
    #[error("`certificates` is empty: name at least one Certificate")]
    NoCertificates,
    /// A Secret was to be overwritten with what another one lacks.
    #[error("it has no {} now", .0.file_name())]
    NoContent(SecretFile),
    /// The Certificate that was to sign a revocation list.
    #[error("the Certificate `{0}` is no CA: it needs `isCA: true`")]
    NoCa(String),
    /// The Certificate that an authority was to be like.
    #[error("`{0}` is no CA: `like` must name a Certificate with `isCA: true`")]
    LikeNoCa(String),
    /// The name of an Issuer, where a CA's certificate is needed.
    #[error("`{0}` is self-signed: it has no certificate of its own")]
    SelfSigned(String),
    /// Issuing an authority would never end.
    #[error("its issuers go in a circle: one of them must have no `issuer`")]
    IssuersInCircle,
    /// Whoever was to sign it isn't there.
    #[error(transparent)]
    Issuer(Box<PkiError>),
    /// The Secret that its issuer signs with no longer holds what was issued.
    #[error("the Secret `{0}` of its issuer was overwritten by hand: issuing with what it holds is not followed")]
    IssuerOverwritten(String),
    /// A distribution has nothing to begin with.
    #[error("the manifests have no ExternalSecret that makes a Secret of type kubernetes.io/tls (in the folder `site`)")]
    NoExternalSecret,
    /// A distribution's own template is not followed.
    #[error("template.{key}: {source}")]
    Template {
        /// The key of the Secret that it makes, such as `tls.crt`.
        key: &'static str,
        /// The template, and what is followed.
        source: TemplateError,
    },
    /// A distribution takes a file from an identity that leaves it out.
    #[error("`{identity}` has no {} to push", file.file_name())]
    NothingToPush {
        /// The identity, or the Secret of the CA.
        identity: String,
        /// The file that it leaves out.
        file: SecretFile,
    },
    /// The site would get another certificate than the scenarios say.
    #[error(
        "the identity `{identity}` is in the Secret `{secret}`, and the ExternalSecret takes certificate and key from `{key}` ({place})"
    )]
    OtherSource {
        /// The identity that is distributed.
        identity: String,
        /// The Secret of its Certificate.
        secret: String,
        /// The credential that the ExternalSecret names.
        key: String,
        /// Where it names it.
        place: Place,
    },
    /// The ExternalSecret has no source for `ca.crt`.
    #[error("the ExternalSecret takes the CA from no credential")]
    NoCaSource,
    /// The ExternalSecret lacks one of its two sources.
    #[error("it needs a credential with certificate and key, and one with the CA")]
    NoSource,
    /// External Secrets was to refuse with these words, and did not.
    #[error("the Secret was made, and it should have failed with `{0}`")]
    SecretMade(String),
    /// External Secrets made no Secret, where the scenario expects one.
    #[error("there is no Secret: {0}")]
    NoSecret(#[source] SyncError),
    /// External Secrets refused for another reason than it was to.
    #[error("there is no Secret, but not for `{words}`: {source}")]
    OtherSyncError {
        /// What it was to say.
        words: String,
        /// What it said instead.
        source: SyncError,
    },
}

/// What failed while a certificate was issued.
#[derive(Debug, Clone, thiserror::Error)]
pub enum IssueCause {
    /// rcgen, or the cryptography below it, refused.
    #[error(transparent)]
    Rcgen(#[from] rcgen::Error),
    /// A subject alternative name that X.509 can't hold.
    #[error("`{name}`: {source}")]
    NotAscii {
        /// As it stands in the Certificate.
        name: String,
        /// The words of rcgen.
        source: rcgen::Error,
    },
    /// The random generator gave nothing.
    #[error("the system gave no random numbers for its serial number")]
    NoRandomness,
    /// rcgen wrote a key in another form than it says.
    #[error("the key is not in the PKCS #8 form it should have")]
    NotPkcs8,
    /// A Certificate's `spec` could not be written down to be patched.
    #[error(transparent)]
    Spec(Arc<serde_json::Error>),
    /// A Certificate was asked for before it was issued for the first time.
    #[error("it was not issued yet")]
    NotYet,
}

/// Why External Secrets did not make the Secret: it stays as it was. The ExternalSecret's status is then `SecretSyncedError`.
#[derive(Debug, Clone, thiserror::Error)]
pub enum SyncError {
    /// Nothing of that id in the provider.
    #[error("the secrets provider has no credential `{0}`: it was never pushed")]
    NoCredential(String),
    /// The provider can't be read.
    #[error(transparent)]
    Provider(Box<PkiError>),
    /// A template names a field that is not there.
    #[error("the template of `{key}`: there is no field `{field}`")]
    NoField {
        /// The key of the Secret.
        key: String,
        /// The field that no credential of the provider gives.
        field: String,
    },
    /// `filterPEM` found no block in a text.
    #[error("the template of `{key}`: {source}")]
    Filter {
        /// The key of the Secret.
        key: String,
        /// What `filterPEM` says of it.
        source: FoundJunk,
    },
    /// What the API server says of a Secret of type `kubernetes.io/tls` without these keys.
    #[error("Secret \"{secret}\" is invalid: data[{key}]: Required value")]
    Required {
        /// The name of the Secret that was to be made.
        secret: String,
        /// The key that is missing.
        key: &'static str,
    },
}

impl PkiError {
    /// An unknown name, with the known ones.
    pub(super) fn unknown<'a>(kind: &'static str, name: &str, known: impl IntoIterator<Item = &'a str>) -> Self {
        let known: Vec<_> = known.into_iter().collect();
        let known = if known.is_empty() { "none is known".to_owned() } else { format!("known are {}", known.join(", ")) };
        Self::Unknown { kind, name: name.to_owned(), known }
    }

    pub(super) fn invalid(what: impl Into<String>, cause: impl Into<InvalidCause>) -> Self {
        Self::Invalid { what: what.into(), source: Box::new(cause.into()) }
    }

    pub(super) fn issue(what: &str, cause: impl Into<IssueCause>) -> Self {
        Self::Issue { what: what.to_owned(), source: cause.into() }
    }
}
