//! From a Certificate's `spec` to what stands in the certificate, by cert-manager's rules.
//!
//! Sources: cert-manager's `pkg/util/pki` (`BuildKeyUsages`, `CertificateTemplateFromCSR`) and Go's `crypto/x509.CreateCertificate`.

use std::time::{Duration, SystemTime};

use rcgen::string::{Ia5String, PrintableString};
use rcgen::{
    BasicConstraints, CertificateParams, CustomExtension, DistinguishedName, DnType, DnValue, ExtendedKeyUsagePurpose, IsCa, KeyIdMethod,
    KeyUsagePurpose, SanType,
};

use super::error::{InvalidCause, IssueCause, PkiError};
use super::key::Key;
use deployment::DEFAULT_DURATION;
use deployment::certificate::{CertificateSpec, Subject, Usage};
use model::credential::{ExtendedKeyUsage, KeyUsage, Validity};
use model::duration::{self, Offset};

/// What a variant changes beyond what a Certificate can say.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Overrides<'a> {
    pub(super) validity: Option<&'a Validity>,
    pub(super) key_usage: Option<&'a [KeyUsage]>,
    pub(super) extended_key_usage: Option<&'a [ExtendedKeyUsage]>,
}

const BASIC_CONSTRAINTS: [u64; 4] = [2, 5, 29, 19];
const POSTAL_CODE: [u64; 4] = [2, 5, 4, 17];
const STREET_ADDRESS: [u64; 4] = [2, 5, 4, 9];
const NAME_SERIAL_NUMBER: [u64; 4] = [2, 5, 4, 5];

/// The certificate's contents, except for serial number and authority key identifier.
pub(super) fn params(what: &str, spec: &CertificateSpec, overrides: Overrides<'_>, key: &Key) -> Result<CertificateParams, PkiError> {
    let mut params = CertificateParams::default();
    let (not_before, not_after) = validity(what, spec, overrides.validity)?;
    params.not_before = not_before.into();
    params.not_after = not_after.into();
    params.distinguished_name = distinguished_name(what, spec)?;
    params.subject_alt_names = subject_alt_names(what, spec)?;
    let (key_usages, extended) = usages(&spec.usages, spec.is_ca);
    params.key_usages = overrides.key_usage.map_or(key_usages, |usages| usages.iter().map(|usage| key_usage(*usage)).collect());
    params.extended_key_usages =
        overrides.extended_key_usage.map_or(extended, |usages| usages.iter().map(|usage| extended_key_usage(*usage)).collect());
    // Go writes a subject key identifier for CAs only; rcgen ties it to its own way of writing basicConstraints.
    params.key_identifier_method = KeyIdMethod::PreSpecified(key.identifier());
    if spec.is_ca {
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    } else {
        params.is_ca = IsCa::NoCa;
        // An empty SEQUENCE: cA is false by default.
        let mut extension = CustomExtension::from_oid_content(&BASIC_CONSTRAINTS, vec![0x30, 0x00]);
        extension.set_criticality(true);
        params.custom_extensions.push(extension);
    }
    Ok(params)
}

/// How long ago a certificate begins of which nobody has said when. cert-manager lets it begin with the second of its issue. But programs that
/// ask the kernel's coarse clock (time(2), and so OpenSSL) are some milliseconds behind: for them that second may not have begun when they are
/// shown the certificate, moments later.
const BACKDATED: Duration = Duration::from_secs(60);

/// Start and end: as the offsets say, or from [`BACKDATED`] ago on for as long as the Certificate says.
pub(super) fn validity(what: &str, spec: &CertificateSpec, offsets: Option<&Validity>) -> Result<(SystemTime, SystemTime), PkiError> {
    let now = SystemTime::now();
    if let Some(offsets) = offsets {
        return period(what, now, offsets);
    }
    let lifetime =
        spec.duration.as_deref().map_or(Ok(DEFAULT_DURATION), duration::duration).map_err(|error| PkiError::invalid(what, error))?;
    let start = now.checked_sub(BACKDATED).unwrap_or(now);
    let end = start.checked_add(lifetime).ok_or_else(|| PkiError::invalid(what, InvalidCause::DurationTooLong))?;
    Ok((start, end))
}

/// The two moments of a validity.
pub(super) fn period(what: &str, now: SystemTime, validity: &Validity) -> Result<(SystemTime, SystemTime), PkiError> {
    let invalid = |cause: InvalidCause| PkiError::invalid(what, cause);
    let offset = |field: &'static str, text: &str| duration::offset(text).map_err(|source| invalid(InvalidCause::Offset { field, source }));
    let start = offset("not_before", &validity.not_before)?;
    let end = offset("not_after", &validity.not_after)?;
    let moments = shifted(now, start).zip(shifted(now, end)).ok_or_else(|| invalid(InvalidCause::OutOfRange))?;
    if moments.0 >= moments.1 {
        return Err(invalid(InvalidCause::EndsFirst { not_before: validity.not_before.clone(), not_after: validity.not_after.clone() }));
    }
    Ok(moments)
}

fn shifted(now: SystemTime, offset: Offset) -> Option<SystemTime> {
    let shifted = if offset.negative { now.checked_sub(offset.length) } else { now.checked_add(offset.length) }?;
    // What rcgen can write: years 1970 to 9999.
    let latest = SystemTime::UNIX_EPOCH + Duration::from_secs(253_402_300_799);
    (SystemTime::UNIX_EPOCH..=latest).contains(&shifted).then_some(shifted)
}

/// Go's order of attributes, and its choice of string type: PrintableString where it fits, else UTF8String.
fn distinguished_name(what: &str, spec: &CertificateSpec) -> Result<DistinguishedName, PkiError> {
    let mut name = DistinguishedName::new();
    let empty = Subject::default();
    let subject = spec.subject.as_ref().unwrap_or(&empty);
    for (kind, field, values) in [
        (DnType::CountryName, "countries", &subject.countries),
        (DnType::OrganizationName, "organizations", &subject.organizations),
        (DnType::OrganizationalUnitName, "organizationalUnits", &subject.organizational_units),
        (DnType::LocalityName, "localities", &subject.localities),
        (DnType::StateOrProvinceName, "provinces", &subject.provinces),
        (DnType::CustomDnType(STREET_ADDRESS.to_vec()), "streetAddresses", &subject.street_addresses),
        (DnType::CustomDnType(POSTAL_CODE.to_vec()), "postalCodes", &subject.postal_codes),
    ] {
        match values.as_slice() {
            [] => {}
            [value] => name.push(kind, dn_value(value)),
            _ => return Err(PkiError::invalid(what, InvalidCause::SeveralValues(field))),
        }
    }
    if let Some(common_name) = spec.common_name.as_ref().filter(|common_name| !common_name.is_empty()) {
        name.push(DnType::CommonName, dn_value(common_name));
    }
    if let Some(serial) = &subject.serial_number {
        name.push(DnType::CustomDnType(NAME_SERIAL_NUMBER.to_vec()), dn_value(serial));
    }
    Ok(name)
}

fn dn_value(text: &str) -> DnValue {
    PrintableString::try_from(text).map_or_else(|_| DnValue::Utf8String(text.to_owned()), DnValue::PrintableString)
}

/// Only what the Certificate lists: commonName is not among them.
fn subject_alt_names(what: &str, spec: &CertificateSpec) -> Result<Vec<SanType>, PkiError> {
    let ascii = |name: &String| {
        let failed = |source| PkiError::issue(what, IssueCause::NotAscii { name: name.clone(), source });
        Ia5String::try_from(name.as_str()).map_err(failed)
    };
    let mut names = Vec::new();
    for name in &spec.dns_names {
        names.push(SanType::DnsName(ascii(name)?));
    }
    for name in &spec.email_addresses {
        names.push(SanType::Rfc822Name(ascii(name)?));
    }
    names.extend(spec.ip_addresses.iter().map(|address| SanType::IpAddress(*address)));
    for name in &spec.uris {
        names.push(SanType::URI(ascii(name)?));
    }
    Ok(names)
}

/// cert-manager's `BuildKeyUsages`: digital signature and key encipherment if nothing is asked for, cert sign for a CA in any case.
fn usages(asked: &[Usage], is_ca: bool) -> (Vec<KeyUsagePurpose>, Vec<ExtendedKeyUsagePurpose>) {
    let default = [Usage::DigitalSignature, Usage::KeyEncipherment];
    let asked = if asked.is_empty() { &default } else { asked };
    let mut key_usages = Vec::new();
    let mut extended = Vec::new();
    for usage in asked {
        match usage {
            Usage::Signing | Usage::DigitalSignature => key_usages.push(KeyUsagePurpose::DigitalSignature),
            Usage::ContentCommitment => key_usages.push(KeyUsagePurpose::ContentCommitment),
            Usage::KeyEncipherment => key_usages.push(KeyUsagePurpose::KeyEncipherment),
            Usage::DataEncipherment => key_usages.push(KeyUsagePurpose::DataEncipherment),
            Usage::KeyAgreement => key_usages.push(KeyUsagePurpose::KeyAgreement),
            Usage::CertSign => key_usages.push(KeyUsagePurpose::KeyCertSign),
            Usage::CrlSign => key_usages.push(KeyUsagePurpose::CrlSign),
            Usage::EncipherOnly => key_usages.push(KeyUsagePurpose::EncipherOnly),
            Usage::DecipherOnly => key_usages.push(KeyUsagePurpose::DecipherOnly),
            Usage::Any => extended.push(ExtendedKeyUsagePurpose::Any),
            Usage::ServerAuth => extended.push(ExtendedKeyUsagePurpose::ServerAuth),
            Usage::ClientAuth => extended.push(ExtendedKeyUsagePurpose::ClientAuth),
            Usage::CodeSigning => extended.push(ExtendedKeyUsagePurpose::CodeSigning),
            Usage::EmailProtection | Usage::SMime => extended.push(ExtendedKeyUsagePurpose::EmailProtection),
            Usage::Timestamping => extended.push(ExtendedKeyUsagePurpose::TimeStamping),
            Usage::OcspSigning => extended.push(ExtendedKeyUsagePurpose::OcspSigning),
        }
    }
    if is_ca {
        key_usages.push(KeyUsagePurpose::KeyCertSign);
    }
    (key_usages, extended)
}

fn key_usage(usage: KeyUsage) -> KeyUsagePurpose {
    match usage {
        KeyUsage::DigitalSignature => KeyUsagePurpose::DigitalSignature,
        KeyUsage::KeyEncipherment => KeyUsagePurpose::KeyEncipherment,
        KeyUsage::KeyAgreement => KeyUsagePurpose::KeyAgreement,
        KeyUsage::DataEncipherment => KeyUsagePurpose::DataEncipherment,
        KeyUsage::ContentCommitment => KeyUsagePurpose::ContentCommitment,
        KeyUsage::CertSign => KeyUsagePurpose::KeyCertSign,
        KeyUsage::CrlSign => KeyUsagePurpose::CrlSign,
    }
}

fn extended_key_usage(usage: ExtendedKeyUsage) -> ExtendedKeyUsagePurpose {
    match usage {
        ExtendedKeyUsage::ClientAuth => ExtendedKeyUsagePurpose::ClientAuth,
        ExtendedKeyUsage::ServerAuth => ExtendedKeyUsagePurpose::ServerAuth,
        ExtendedKeyUsage::Any => ExtendedKeyUsagePurpose::Any,
    }
}
