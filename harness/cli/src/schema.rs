//! `schema`: the format of each file, as a JSON schema or as a page of the reference.

use std::io::Write as _;

use schemars::schema_for;

use super::args::SchemaKind;
use super::error::CliError;
use super::output::stdout;
use super::reference::{Page, markdown};
use crate::exit::Exit;

impl SchemaKind {
    /// In the order in which pages are made: one may link to those before it.
    const ALL: [Self; 6] = [Self::Credentials, Self::Claims, Self::Scenario, Self::Deviations, Self::Images, Self::Report];

    fn json(self) -> serde_json::Result<String> {
        match self {
            Self::Scenario => serde_json::to_string_pretty(&schema_for!(model::scenario::Scenario)),
            Self::Report => serde_json::to_string_pretty(&report::json::schema()),
            Self::Claims => serde_json::to_string_pretty(&schema_for!(load::set::ClaimsFile)),
            Self::Credentials => serde_json::to_string_pretty(&schema_for!(model::credential::Credentials)),
            Self::Images => serde_json::to_string_pretty(&schema_for!(load::images::ImagesFile)),
            Self::Deviations => serde_json::to_string_pretty(&schema_for!(load::set::DeviationsFile)),
        }
    }

    fn page(self) -> serde_json::Result<Page> {
        let (name, title) = match self {
            Self::Scenario => ("scenario", "Scenario files"),
            Self::Report => ("report", "The JSON report"),
            Self::Claims => ("claims", "claims.yaml"),
            Self::Credentials => ("credentials", "credentials.yaml"),
            Self::Images => ("images", "images.yaml"),
            Self::Deviations => ("deviations", "deviations.yaml"),
        };
        Ok(Page { name, title, schema: serde_json::from_str(&self.json()?)?, is_output: self == Self::Report })
    }
}

pub(super) fn schema(which: SchemaKind, as_markdown: bool) -> Result<Exit, CliError> {
    let text = if as_markdown { page(which) } else { which.json().map(|json| json + "\n") };
    stdout().write_all(text.map_err(std::io::Error::from)?.as_bytes())?;
    Ok(Exit::Conformant)
}

fn page(which: SchemaKind) -> serde_json::Result<String> {
    let earlier = SchemaKind::ALL.into_iter().take_while(|kind| *kind != which).map(SchemaKind::page);
    Ok(markdown(&which.page()?, &earlier.collect::<Result<Vec<_>, _>>()?))
}
