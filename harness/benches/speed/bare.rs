//! stub
use crate::Error;
pub(crate) fn main(_plan: &str) -> Result<(), Error> {
    Ok(())
}
