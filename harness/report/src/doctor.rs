//! `doctor`: what was found, and what each missing piece costs.

use std::collections::BTreeMap;
use std::io::{self, Write};
use std::path::Path;

use super::tables::Rows;
use load::images::Images;
use model::driver::DriverInfo;
use os::toolchain::{Missing, Tool, Toolchain};

/// Writes one table of what is there and one list of what is missing. `drivers` are those that could be started, as they describe themselves.
///
/// # Errors
/// Where `out` can't be written.
pub fn write(out: &mut dyn Write, toolchain: &Toolchain, drivers: &[DriverInfo], directory: &Path, width: u16) -> io::Result<()> {
    let mut rows = Vec::new();
    for build in &toolchain.postgres {
        let openssl = build.openssl.clone().unwrap_or_else(|| "?".to_owned());
        rows.push(vec![
            format!("postgres-{}", build.major),
            build.version.clone(),
            openssl,
            build.origin.to_owned(),
            build.bin.display().to_string(),
        ]);
    }
    let tools: [(&str, &Option<Tool>); 4] =
        [("redis", &toolchain.redis), ("haproxy", &toolchain.haproxy), ("openssl", &toolchain.openssl), ("pgbench", &toolchain.pgbench)];
    for (name, tool) in tools {
        if let Some(tool) = tool {
            rows.push(vec![
                name.to_owned(),
                tool.version.clone(),
                String::new(),
                "distribution".to_owned(),
                tool.path.display().to_string(),
            ]);
        }
    }
    for driver in drivers {
        let place = toolchain
            .libpq
            .iter()
            .find(|build| build.driver == driver.name)
            .map(|build| (build.origin, build.library.display().to_string()));
        let place = place.or_else(|| {
            toolchain
                .python
                .iter()
                .find(|build| build.driver == driver.name)
                .map(|build| ("toolchain", build.interpreter.display().to_string()))
        });
        let (origin, place) = place.unwrap_or(("built in", String::new()));
        let tls = driver.tls_library.clone().unwrap_or_default();
        rows.push(vec![driver.name.clone(), driver.version.clone(), tls, origin.to_owned(), place]);
    }
    let table = Rows { head: vec!["found", "version", "TLS library", "origin", "place"], rows, numbers_from: 5, omitted: 0 };
    writeln!(out, "{}", table.render(width))?;
    writeln!(out, "toolchain directory: {}", directory.display())?;
    if toolchain.missing.is_empty() {
        return writeln!(out, "nothing is missing");
    }
    let (closed, missing): (Vec<&Missing>, Vec<&Missing>) = toolchain.missing.iter().partition(|missing| missing.closed);
    for (title, pieces) in [("missing:", missing), ("closed to this user:", closed)] {
        if !pieces.is_empty() {
            writeln!(out, "{title}")?;
        }
        pieces.iter().try_for_each(|piece| writeln!(out, "  {}: {}", piece.name, piece.cost))?;
    }
    Ok(())
}

/// Writes which images serve for what in containers, in the order of trying, and who named them. `here` is the digest or id of those that
/// the engine has, by reference.
///
/// # Errors
/// Where `out` can't be written.
pub fn write_images(out: &mut dyn Write, images: &Images, here: &BTreeMap<String, String>, width: u16) -> io::Result<()> {
    let mut rows = Vec::new();
    for (image_use, candidates) in images.iter() {
        let references: Vec<String> = candidates.iter().map(|candidate| candidate.reference.to_string()).collect();
        for ((reference, state), candidate) in references.iter().zip(states(&references, here)).zip(candidates) {
            rows.push(vec![image_use.to_string(), reference.clone(), state, candidate.source.to_string()]);
        }
    }
    let table = Rows { head: vec!["image for", "image", "state", "named by"], rows, numbers_from: 4, omitted: 0 };
    writeln!(out, "{}", table.render(width))
}

/// Of the images for one use, in the order of trying, the first that is there is taken; where none is, they are pulled in this order.
fn states(references: &[String], here: &BTreeMap<String, String>) -> Vec<String> {
    let taken = references.iter().position(|reference| here.contains_key(reference));
    let state = |(index, reference): (usize, &String)| match (here.get(reference), taken) {
        (Some(id), Some(taken)) if index == taken => format!("taken: {id}"),
        (Some(id), _) => format!("there: {id}"),
        (None, Some(_)) => "not there".to_owned(),
        (None, None) if index == 0 => "would be pulled".to_owned(),
        (None, None) => "would be pulled next".to_owned(),
    };
    references.iter().enumerate().map(state).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_image_that_is_there_is_taken_and_where_none_is_the_first_would_be_pulled() {
        let references = ["one:1", "two:1", "three:1"].map(str::to_owned);
        let here = |names: &[&str]| names.iter().map(|name| ((*name).to_owned(), "sha256:abc".to_owned())).collect::<BTreeMap<_, _>>();
        assert_eq!(states(&references, &here(&["two:1", "three:1"])), ["not there", "taken: sha256:abc", "there: sha256:abc"]);
        assert_eq!(states(&references, &here(&[])), ["would be pulled", "would be pulled next", "would be pulled next"]);
    }
}
