//! Names in a scenario that something else must know: identities, trusts, revocation lists, drivers.

use std::collections::BTreeMap;

use super::expansion::Expansion;
use super::resolve::{Resolver, references};
use load::{LoadError, UnknownName};
use model::case::{ConnectPlan, Expectation, Expected, SessionExpectation};
use model::credential::SecretFile;
use model::network::{REFERENCES, check_reference};
use model::scenario::Connect;
use model::server::{ServerConfig, Service};
use model::text::Text;

impl Expansion<'_> {
    /// Identity, trust and driver of a connection.
    pub(super) fn check_names(&self, plan: &ConnectPlan, resolver: &Resolver<'_>, connect: &Connect, step: usize) -> Result<(), LoadError> {
        let at = |message: String, text: Option<&Text>| match text {
            Some(text) => resolver.error(text, message),
            None => self.at(&["steps", &step.to_string(), "connect"], message),
        };
        let credentials = &self.set.credentials;
        if let Some(name) = plan.identity.as_ref().filter(|name| !credentials.is_identity(name)) {
            return Err(at(
                UnknownName::new("identity", name, credentials.identities.keys().chain(credentials.distributions.keys())).to_string(),
                connect.identity.as_ref(),
            ));
        }
        if let Some(name) = plan.trust.as_ref().filter(|name| !credentials.is_trust(name)) {
            return Err(at(
                UnknownName::new("trust", name, credentials.trusts.keys().chain(credentials.distributions.keys())).to_string(),
                connect.trust.as_ref(),
            ));
        }
        self.check_driver(plan, resolver, connect, &["steps", &step.to_string(), "connect"])
    }

    /// The driver of the connection that stands below `keys`.
    pub(super) fn check_driver(
        &self,
        plan: &ConnectPlan,
        resolver: &Resolver<'_>,
        connect: &Connect,
        keys: &[&str],
    ) -> Result<(), LoadError> {
        let service = self.scenario().service;
        if plan.driver.is_empty() {
            return Err(self.at(keys, "a connection needs a driver: give the matrix an axis `driver`, or name one here"));
        }
        let known = self.catalogue.drivers.iter().filter(|driver| driver.service == service).map(|driver| &driver.name);
        if !known.clone().any(|driver| *driver == plan.driver) {
            let message = UnknownName::new("driver", &plan.driver, known).to_string();
            return Err(connect
                .driver
                .as_ref()
                .map_or_else(|| self.at(keys, message.clone()), |text| resolver.error(text, message.clone())));
        }
        for text in connect.env.iter().flat_map(BTreeMap::values) {
            self.check_references(text, resolver)?;
        }
        Ok(())
    }

    /// The certificate that the server must have presented.
    pub(super) fn check_expectation(&self, expectation: &Expectation) -> Result<(), UnknownName> {
        let Expected::Session(SessionExpectation { server_certificate: Some(name), .. }) = &expectation.expected else { return Ok(()) };
        let identities = &self.set.credentials.identities;
        if identities.contains_key(name) { Ok(()) } else { Err(UnknownName::new("identity", name, identities.keys())) }
    }

    /// References in a text of an `openssl` step or of `env`: to files (what `${server:FILE}` may name, the environment knows), and to
    /// networks.
    pub(super) fn check_references(&self, text: &Text, resolver: &Resolver<'_>) -> Result<(), LoadError> {
        let resolved = resolver.replaced(text)?;
        for reference in references(&resolved) {
            if let Some(checked) = check_reference(reference) {
                checked.map_err(|error| resolver.error(text, error.to_string()))?;
                continue;
            }
            let credentials = &self.set.credentials;
            let error = match reference.split_once(':') {
                Some(("trust", name)) if !credentials.is_trust(name) => {
                    UnknownName::new("trust", name, credentials.trusts.keys()).to_string()
                }
                Some(("identity", path)) => {
                    let files = [SecretFile::Certificate, SecretFile::Key, SecretFile::Ca];
                    match path.split_once('/') {
                        Some((name, file)) if files.iter().any(|known| known.file_name() == file) => {
                            if credentials.is_identity(name) {
                                continue;
                            }
                            UnknownName::new("identity", name, credentials.identities.keys()).to_string()
                        }
                        _ => format!("`${{{reference}}}`: a file of an identity is NAME/tls.crt, NAME/tls.key or NAME/ca.crt"),
                    }
                }
                Some(("trust" | "server", _)) => continue,
                _ => format!("`${{{reference}}}` names nothing: write identity:NAME/FILE, trust:NAME, server:FILE, {REFERENCES}"),
            };
            return Err(resolver.error(text, error));
        }
        Ok(())
    }

    /// The server's configuration for the resolver's cell, with every name in it known.
    pub(super) fn config(&self, resolver: &Resolver<'_>) -> Result<ServerConfig, LoadError> {
        let patch = &self.scenario().server;
        let no_redis = [("pg_hba", patch.pg_hba.is_some()), ("crl", patch.crl.is_some())];
        if let Some((field, _)) = no_redis.iter().find(|(_, there)| *there).filter(|_| self.scenario().service == Service::Redis) {
            return Err(self.at(&["server", field], format!("`{field}` has no meaning in a Redis scenario")));
        }
        let pg_hba = match &patch.pg_hba {
            None => None,
            Some(lines) => {
                let mut resolved = Vec::new();
                for text in lines {
                    resolved.extend(resolver.networked(text)?.lines().map(str::trim).filter(|line| !line.is_empty()).map(str::to_owned));
                }
                Some(resolved)
            }
        };
        let optional = |text: &Option<Text>| text.as_ref().map(|text| resolver.text(text)).transpose();
        let known = |kind: &'static str, name: Option<String>, text: &Option<Text>, names: Vec<&String>| match (name, text) {
            (Some(name), Some(text)) if name != "default" && name != "none" && !names.contains(&&name) => {
                Err(resolver.error(text, UnknownName::new(kind, &name, names.into_iter()).to_string()))
            }
            (name, _) => Ok(name.filter(|name| name != "default")),
        };
        let credentials = &self.set.credentials;
        let mut settings = BTreeMap::new();
        for (name, value) in &patch.settings {
            settings.insert(name.clone(), resolver.text(value)?);
        }
        Ok(ServerConfig {
            pg_hba,
            settings,
            certificate: known("identity", optional(&patch.certificate)?, &patch.certificate, credentials.identities.keys().collect())?,
            client_ca: known("trust", optional(&patch.client_ca)?, &patch.client_ca, credentials.trusts.keys().collect())?,
            crl: known("crl", optional(&patch.crl)?, &patch.crl, credentials.crls.keys().collect())?.filter(|name| name != "none"),
        })
    }
}
