//! As much DER as re-wrapping a private key takes, and PEM.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;

/// The tag of a SEQUENCE (X.690, 8.9).
pub(super) const SEQUENCE: u8 = 0x30;
/// `[0]`, constructed.
pub(super) const CONTEXT_0: u8 = 0xa0;
/// `[1]`, constructed.
pub(super) const CONTEXT_1: u8 = 0xa1;

/// One element, its content not interpreted.
#[derive(Debug, Clone, Copy)]
pub(super) struct Element<'a> {
    /// The identifier octet: class, form and number.
    pub(super) tag: u8,
    /// What is in it.
    pub(super) content: &'a [u8],
    /// Tag, length and content.
    pub(super) whole: &'a [u8],
}

/// The elements that stand one after the other in `der`; `None` if it is cut off or uses a form that keys don't.
pub(super) fn elements(der: &[u8]) -> Option<Vec<Element<'_>>> {
    let mut rest = der;
    let mut found = Vec::new();
    while let [tag, length, ..] = *rest {
        let (header, length) = match length {
            0..=0x7f => (2, usize::from(length)),
            0x81 => (3, usize::from(*rest.get(2)?)),
            0x82 => (4, usize::from(*rest.get(2)?) << 8 | usize::from(*rest.get(3)?)),
            _ => return None,
        };
        let whole = rest.get(..header + length)?;
        found.push(Element { tag, content: &whole[header..], whole });
        rest = &rest[header + length..];
    }
    rest.is_empty().then_some(found)
}

/// An element around a content.
pub(super) fn element(tag: u8, parts: &[&[u8]]) -> Vec<u8> {
    let content = parts.concat();
    let mut der = vec![tag];
    match content.len() {
        length @ 0..=0x7f => der.push(length.to_le_bytes()[0]),
        length => {
            let bytes = length.to_be_bytes();
            let significant = &bytes[bytes.iter().position(|byte| *byte != 0).unwrap_or(0)..];
            der.push(0x80 | significant.len().to_le_bytes()[0]);
            der.extend_from_slice(significant);
        }
    }
    der.extend_from_slice(&content);
    der
}

/// PEM as Go's `encoding/pem` writes it: lines of 64, a line feed after the last.
pub(super) fn pem(label: &str, der: &[u8]) -> String {
    let text = STANDARD.encode(der);
    let mut pem = format!("-----BEGIN {label}-----\n");
    let mut rest = text.as_str();
    while !rest.is_empty() {
        let (line, after) = rest.split_at(rest.len().min(64));
        pem.push_str(line);
        pem.push('\n');
        rest = after;
    }
    pem.push_str(&format!("-----END {label}-----\n"));
    pem
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_written_is_read_back_whatever_its_length() {
        for length in [0, 1, 127, 128, 255, 256, 3000] {
            let content = vec![7_u8; length];
            let der = [element(SEQUENCE, &[&content]), element(CONTEXT_0, &[b"x"])].concat();
            let read = elements(&der).expect("it is DER");
            assert_eq!(read.len(), 2, "length {length}");
            assert_eq!(read[0].content, content, "length {length}");
            assert_eq!(read[1].tag, CONTEXT_0);
        }
    }

    #[test]
    fn what_is_cut_off_is_refused() {
        assert!(elements(&[0x30, 0x05, 0x01]).is_none());
        assert!(elements(&[0x30]).is_none());
        assert!(elements(&[0x30, 0x82, 0x01]).is_none());
    }
}
