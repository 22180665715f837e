//! External Secrets' template function `filterPEM`: the PEM blocks of one type, written anew.
//!
//! Source: external-secrets `runtime/template/v2/pem.go`, whose rules are those of Go's `encoding/pem`: a block begins and ends at line
//! ends, a line ends with LF or CRLF, and what is no block is passed over. PEM crates are of another mind about all of that.

use std::collections::BTreeMap;

use base64::Engine as _;
use base64::alphabet::STANDARD;
use base64::engine::{GeneralPurpose, GeneralPurposeConfig};

use crate::der::pem;

const BEGIN: &[u8] = b"-----BEGIN ";
const END: &[u8] = b"\n-----END ";
const DASHES: &[u8] = b"-----";

/// Go's `base64.StdEncoding`: padding is needed, bits left over behind the last byte are not looked at.
const BASE64: GeneralPurpose = GeneralPurpose::new(&STANDARD, GeneralPurposeConfig::new().with_decode_allow_trailing_bits(true));

/// The header that Go writes before all others.
const PROC_TYPE: &str = "Proc-Type";

/// The text holds something, but no block of that type, and something that is no block stands behind the last one.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("error filtering pem: found junk")]
pub struct FoundJunk;

/// The blocks of type `kind` (letter case aside) in `text`, with line feeds as line ends. Empty where there are blocks, but none of that
/// type: no error tells of it.
///
/// # Errors
/// [`FoundJunk`], in External Secrets' words.
pub fn filter_pem(kind: &str, text: &str) -> Result<String, FoundJunk> {
    let mut rest = &text.as_bytes()[text.find("-----BEGIN").unwrap_or(0)..];
    let mut found = String::new();
    while let Some((block, behind)) = next_block(rest) {
        rest = behind;
        if block.kind.eq_ignore_ascii_case(kind) {
            found.push_str(&block.to_pem());
        }
    }
    if found.is_empty() && !rest.is_empty() { Err(FoundJunk) } else { Ok(found) }
}

struct Block {
    kind: String,
    headers: BTreeMap<String, String>,
    content: Vec<u8>,
}

impl Block {
    /// As Go's `pem.Encode` writes it.
    fn to_pem(&self) -> String {
        let text = pem(&self.kind, &self.content);
        if self.headers.is_empty() {
            return text;
        }
        let (first, body) = text.split_once('\n').unwrap_or((&text, ""));
        let mut out = format!("{first}\n");
        let proc_type = self.headers.get_key_value(PROC_TYPE);
        for (name, value) in proc_type.into_iter().chain(self.headers.iter().filter(|(name, _)| *name != PROC_TYPE)) {
            out.push_str(&format!("{name}: {value}\n"));
        }
        out.push('\n');
        out.push_str(body);
        out
    }
}

/// The first block in `data` and what stands behind it, by the rules of Go's `pem.Decode`.
fn next_block(data: &[u8]) -> Option<(Block, &[u8])> {
    let mut from = 0;
    loop {
        let end = from + find(&data[from..], END)?;
        let trailer_at = end + END.len();
        // The last BEGIN before the first END: one without an END of its own is passed over.
        let begin = rfind(&data[from..end], BEGIN).map(|at| from + at).filter(|at| *at == from || data[at - 1] == b'\n');
        match begin.map(|begin| block(data, begin, end)) {
            Some(Body::Read(block)) => {
                let (_, behind) = line(data, trailer_at - 1);
                return Some((block, &data[behind..]));
            }
            Some(Body::Endless) => return None,
            Some(Body::Wrong) | None => from = trailer_at,
        }
    }
}

enum Body {
    Read(Block),
    /// No block: the search goes on behind its END.
    Wrong,
    /// Its headers go on to the end of the text, or beyond its END.
    Endless,
}

/// The block from the BEGIN at `begin` to the END whose line feed is at `end`.
fn block(data: &[u8], begin: usize, end: usize) -> Body {
    let trailer_at = end + END.len();
    let (type_line, mut at) = line(data, begin + BEGIN.len());
    let Some(kind) = type_line.strip_suffix(DASHES) else { return Body::Wrong };
    let mut headers = BTreeMap::new();
    loop {
        if at == data.len() {
            return Body::Endless;
        }
        let (header, next) = line(data, at);
        let Some(colon) = header.iter().position(|byte| *byte == b':') else { break };
        headers.insert(text(header[..colon].trim_ascii()), text(header[colon + 1..].trim_ascii()));
        at = next;
    }
    if at > trailer_at {
        return Body::Endless;
    }
    if !headers.is_empty() && at > end {
        return Body::Wrong;
    }
    let closed = data[trailer_at..].strip_prefix(kind).and_then(|trailer| trailer.strip_prefix(DASHES));
    if closed.is_none_or(|behind| !line(behind, 0).0.is_empty()) {
        return Body::Wrong;
    }
    let encoded: Vec<u8> = data.get(at..end).unwrap_or_default().iter().copied().filter(|byte| !b" \t\r\n".contains(byte)).collect();
    match BASE64.decode(encoded) {
        Ok(content) => Body::Read(Block { kind: text(kind), headers, content }),
        Err(_) => Body::Wrong,
    }
}

/// The line that begins at `at`, without its end and the blanks before it, and where the next one begins.
fn line(data: &[u8], at: usize) -> (&[u8], usize) {
    let (line, next) = match data[at..].iter().position(|byte| *byte == b'\n') {
        Some(length) => {
            let line = &data[at..at + length];
            (line.strip_suffix(b"\r").unwrap_or(line), at + length + 1)
        }
        None => (&data[at..], data.len()),
    };
    let blanks = line.iter().rev().take_while(|byte| b" \t".contains(byte)).count();
    (&line[..line.len() - blanks], next)
}

fn find(data: &[u8], wanted: &[u8]) -> Option<usize> {
    data.windows(wanted.len()).position(|window| window == wanted)
}

fn rfind(data: &[u8], wanted: &[u8]) -> Option<usize> {
    data.windows(wanted.len()).rposition(|window| window == wanted)
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

#[cfg(test)]
mod tests {
    use serde::Deserialize;

    use super::*;

    #[derive(Deserialize)]
    struct File {
        source: String,
        vectors: Vec<Vector>,
    }

    #[derive(Deserialize)]
    struct Vector {
        name: String,
        #[serde(rename = "type")]
        kind: String,
        input: String,
        output: Option<String>,
        error: Option<String>,
    }

    #[test]
    fn every_text_is_filtered_as_go_filters_it() {
        let file: File = serde_json::from_str(include_str!("filter_pem.json")).expect("vectors");
        assert!(file.source.contains("Go 1.26") && !file.vectors.is_empty());
        for Vector { name, kind, input, output, error } in file.vectors {
            let expected = match (output, error) {
                (Some(output), None) => Ok(output),
                (None, Some(error)) => Err(error),
                _ => panic!("{name}: exactly one of output and error"),
            };
            assert_eq!(filter_pem(&kind, &input).map_err(|error| error.to_string()), expected, "{name}");
        }
    }
}
