//! `doctor`: what was found, and what each missing piece costs.

use std::io::{self, Write};
use std::path::Path;

use super::tables::Rows;
use crate::load::images::Images;
use crate::model::driver::DriverInfo;
use crate::os::toolchain::{Tool, Toolchain};

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
    writeln!(out, "missing:")?;
    toolchain.missing.iter().try_for_each(|missing| writeln!(out, "  {}: {}", missing.name, missing.cost))
}

/// Writes which images serve for what in containers, in the order of trying, and who named them.
///
/// # Errors
/// Where `out` can't be written.
pub fn write_images(out: &mut dyn Write, images: &Images, width: u16) -> io::Result<()> {
    let rows = images.iter().flat_map(|(image_use, candidates)| {
        candidates.iter().map(move |candidate| vec![image_use.to_string(), candidate.reference.to_string(), candidate.source.to_string()])
    });
    let table = Rows { head: vec!["image for", "image", "named by"], rows: rows.collect(), numbers_from: 3, omitted: 0 };
    writeln!(out, "{}", table.render(width))
}
