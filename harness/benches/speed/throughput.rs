//! Whole runs of the harness beside the bare loop: stub.
use serde::Serialize;
use crate::args::Effort;
use crate::site::Site;
use crate::Error;

#[derive(Debug, Serialize)]
pub(crate) struct Throughput {}

pub(crate) fn measure(_site: &Site, _effort: &Effort) -> Result<Throughput, Error> {
    Ok(Throughput {})
}
impl Throughput {
    pub(crate) fn text(&self) -> String {
        String::new()
    }
}
