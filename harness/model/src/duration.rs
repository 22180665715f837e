//! Durations as Go's `time.ParseDuration` reads them: cert-manager's `duration` and `renewBefore`, and the signed offsets of scenarios.

use std::time::Duration;

/// A signed span of whole nanoseconds.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Offset {
    /// Whether it lies in the past.
    pub negative: bool,
    /// The span without its sign.
    pub length: Duration,
}

/// A text that is no duration where one is needed.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum DurationError {
    /// The text is not in the format of Go's `time.ParseDuration`, or too long for 64 bits of nanoseconds.
    #[error("`{0}` is no duration: numbers with the units h, m, s or ms are allowed, such as `87600h` or `1h30m`")]
    Malformed(String),
    /// The text has a minus sign where a span of time is meant.
    #[error("`{0}` is negative: a duration such as `8760h` is allowed")]
    Negative(String),
}

const UNITS: [(&str, u64); 6] =
    [("ms", 1_000_000), ("ns", 1), ("us", 1_000), ("h", 3_600_000_000_000), ("m", 60_000_000_000), ("s", 1_000_000_000)];

/// Reads `87600h`, `1h30m`, `-2h`, `500ms`. There are no days in it.
///
/// # Errors
/// [`DurationError::Malformed`].
pub fn offset(text: &str) -> Result<Offset, DurationError> {
    let wrong = || DurationError::Malformed(text.to_owned());
    let (negative, mut rest) = match text.as_bytes().first() {
        Some(b'-') => (true, &text[1..]),
        Some(b'+') => (false, &text[1..]),
        _ => (false, text),
    };
    if rest == "0" {
        return Ok(Offset { negative: false, length: Duration::ZERO });
    }
    if rest.is_empty() {
        return Err(wrong());
    }
    let mut nanoseconds: u64 = 0;
    while !rest.is_empty() {
        let digits = rest.bytes().take_while(u8::is_ascii_digit).count();
        let number: u64 = rest[..digits].parse().map_err(|_| wrong())?;
        rest = &rest[digits..];
        let (unit, factor) = UNITS.iter().find(|(unit, _)| rest.starts_with(unit)).ok_or_else(wrong)?;
        rest = &rest[unit.len()..];
        nanoseconds = number.checked_mul(*factor).and_then(|part| nanoseconds.checked_add(part)).ok_or_else(wrong)?;
    }
    Ok(Offset { negative, length: Duration::from_nanos(nanoseconds) })
}

/// Reads a duration that can't be negative.
///
/// # Errors
/// [`DurationError`], with what is allowed.
pub fn duration(text: &str) -> Result<Duration, DurationError> {
    let offset = offset(text)?;
    if offset.negative { Err(DurationError::Negative(text.to_owned())) } else { Ok(offset.length) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durations_are_read_as_go_reads_them() {
        assert_eq!(duration("87600h"), Ok(Duration::from_secs(87_600 * 3600)));
        assert_eq!(duration("1h30m"), Ok(Duration::from_secs(5400)));
        assert_eq!(duration("90s"), Ok(Duration::from_secs(90)));
        assert_eq!(duration("500ms"), Ok(Duration::from_millis(500)));
        assert_eq!(offset("-2h"), Ok(Offset { negative: true, length: Duration::from_secs(7200) }));
    }

    #[test]
    fn what_go_refuses_is_refused_with_what_is_allowed() {
        for text in ["", "-", "90d", "12", "h", "1h 30m", "99999999999999h"] {
            let error = duration(text).expect_err(text);
            assert_eq!(error, DurationError::Malformed(text.to_owned()));
            assert!(error.to_string().contains("units h, m, s"), "{error}");
        }
        assert_eq!(duration("-1h"), Err(DurationError::Negative("-1h".to_owned())));
    }
}
