//! Reading length-prefixed fields, and collecting bytes that arrive in pieces.

/// What is left of a message; every method takes from its front and gives `None` when too little is left.
#[derive(Debug, Clone, Copy)]
pub(super) struct Fields<'a>(&'a [u8]);

impl<'a> Fields<'a> {
    /// Reads from the start of `bytes`.
    pub(super) fn new(bytes: &'a [u8]) -> Self {
        Self(bytes)
    }

    /// Whether nothing is left.
    pub(super) fn is_empty(self) -> bool {
        self.0.is_empty()
    }

    /// The next `length` bytes.
    pub(super) fn take(&mut self, length: usize) -> Option<&'a [u8]> {
        let (front, rest) = self.0.split_at_checked(length)?;
        self.0 = rest;
        Some(front)
    }

    /// The next byte as a number.
    pub(super) fn u8(&mut self) -> Option<u8> {
        let (first, rest) = self.0.split_first()?;
        self.0 = rest;
        Some(*first)
    }

    /// The next two bytes as a number, the highest byte first.
    pub(super) fn u16(&mut self) -> Option<u16> {
        let (front, rest) = self.0.split_first_chunk()?;
        self.0 = rest;
        Some(u16::from_be_bytes(*front))
    }

    /// A vector whose length stands before it in one byte.
    pub(super) fn short_vector(&mut self) -> Option<Self> {
        let length = self.u8()?;
        self.take(length.into()).map(Self)
    }

    /// A vector whose length stands before it in two bytes.
    pub(super) fn vector(&mut self) -> Option<Self> {
        let length = self.u16()?;
        self.take(length.into()).map(Self)
    }

    /// All that is left.
    pub(super) fn rest(self) -> &'a [u8] {
        self.0
    }
}

/// Moves bytes from the front of `input` until `buffer` holds `wanted` of them; says whether it does.
pub(super) fn collect(buffer: &mut Vec<u8>, wanted: usize, input: &mut &[u8]) -> bool {
    let missing = wanted.saturating_sub(buffer.len());
    let (front, rest) = input.split_at(missing.min(input.len()));
    buffer.extend_from_slice(front);
    *input = rest;
    buffer.len() >= wanted
}

/// Drops up to `left` bytes from the front of `input` and counts them off.
pub(super) fn skip(left: &mut usize, input: &mut &[u8]) {
    let (front, rest) = input.split_at((*left).min(input.len()));
    *left -= front.len();
    *input = rest;
}
