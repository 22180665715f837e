//! What a relay does to a connection on purpose.

use std::time::Duration;

use model::wire::Side;

/// One fault; it applies to every connection through the relay.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Fault {
    /// Wait that long before connecting to the server. The client's TCP connection is made at once, and then gets no answer.
    Delay(Duration),
    /// Reset both sides once that many bytes from `side` have passed. They still arrive; 0 cuts before the first.
    CutAfter {
        /// The sender that is counted.
        side: Side,
        /// How many bytes of that sender still pass.
        bytes: u64,
    },
    /// Invert all bits of one byte. The trace shows what was sent, not what arrived.
    Garble {
        /// Whose byte it is.
        side: Side,
        /// How many bytes that sender sends before it.
        offset: u64,
    },
}

/// How long to wait before connecting to the server.
pub(super) fn delay(faults: &[Fault]) -> Duration {
    faults.iter().map(|fault| if let Fault::Delay(wait) = fault { *wait } else { Duration::ZERO }).sum()
}

/// The faults of one direction of one connection, and how far it has come.
#[derive(Debug, Default)]
pub(super) struct Tampering {
    passed: u64,
    cut: Option<u64>,
    garbled: Vec<u64>,
}

impl Tampering {
    /// The faults that concern what `sender` sends. Of several cuts the first one counts.
    pub(super) fn new(faults: &[Fault], sender: Side) -> Self {
        let mut tampering = Self::default();
        for fault in faults {
            match fault {
                Fault::CutAfter { side, bytes } if *side == sender => {
                    tampering.cut = Some(tampering.cut.map_or(*bytes, |cut| cut.min(*bytes)));
                }
                Fault::Garble { side, offset } if *side == sender => tampering.garbled.push(*offset),
                Fault::Delay(_) | Fault::CutAfter { .. } | Fault::Garble { .. } => {}
            }
        }
        tampering
    }

    /// Garbles the bytes that come next, and gives the part of them that passes.
    pub(super) fn apply<'a>(&mut self, bytes: &'a mut [u8]) -> &'a [u8] {
        for offset in &self.garbled {
            let place = offset.checked_sub(self.passed).and_then(|place| usize::try_from(place).ok());
            if let Some(byte) = place.and_then(|place| bytes.get_mut(place)) {
                *byte = !*byte;
            }
        }
        let left = self.cut.map_or(u64::MAX, |cut| cut.saturating_sub(self.passed));
        let length = usize::try_from(left).unwrap_or(usize::MAX).min(bytes.len());
        self.passed += length as u64;
        &bytes[..length]
    }

    /// Whether nothing more passes.
    pub(super) fn is_cut(&self) -> bool {
        self.cut.is_some_and(|cut| self.passed >= cut)
    }
}
