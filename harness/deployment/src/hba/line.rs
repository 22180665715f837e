//! A line of `pg_hba.conf` in its parts.
//!
//! Source: PostgreSQL 18 manual, "The pg_hba.conf File"; `next_token` and `parse_hba_line` in `src/backend/libpq/hba.c`.

use std::net::IpAddr;
use std::ops::Range;

use ipnet::IpNet;
use model::network::NetworkName;

/// A field of a line.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Field {
    /// What it says, without its quotes.
    pub(super) text: String,
    /// Its bytes in the line, quotes included.
    pub(super) bytes: Range<usize>,
}

/// The fields of a line. What follows a comma belongs to the same field; `#` begins a comment.
pub(super) fn fields(line: &str) -> Vec<Field> {
    let mut fields = Vec::new();
    let mut text = String::new();
    // Where the field begins that has begun, and where it ends so far.
    let mut bytes: Option<Range<usize>> = None;
    let mut quoted = false;
    for (at, character) in line.char_indices() {
        match character {
            '#' if !quoted => break,
            space if space.is_whitespace() && !quoted => {
                if !text.ends_with(',')
                    && let Some(bytes) = bytes.take()
                {
                    fields.push(Field { text: std::mem::take(&mut text), bytes });
                }
                continue;
            }
            '"' => quoted = !quoted,
            other => text.push(other),
        }
        bytes.get_or_insert(at..at).end = at + character.len_utf8();
    }
    fields.extend(bytes.map(|bytes| Field { text, bytes }));
    fields
}

/// The addresses of a line, where they are written as numbers.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct HbaRange {
    /// The addresses, as one network.
    pub range: IpNet,
    /// Their bytes in the line, a mask that stands behind included.
    bytes: Range<usize>,
}

impl HbaRange {
    /// The addresses of a line. `None` where it has none: a comment, `local`, `all`, `samehost`, `samenet`, a name, and what is no line of
    /// `pg_hba.conf`.
    #[must_use]
    pub fn of(line: &str) -> Option<Self> {
        let fields = fields(line);
        if !fields.first()?.text.starts_with("host") {
            return None;
        }
        let address = fields.get(3)?;
        if let Ok(range) = address.text.parse::<IpNet>() {
            return Some(Self { range: range.trunc(), bytes: address.bytes.clone() });
        }
        let mask = fields.get(4)?;
        let (base, length): (IpAddr, IpAddr) = (address.text.parse().ok()?, mask.text.parse().ok()?);
        let range = IpNet::with_netmask(base, length).ok()?.trunc();
        Some(Self { range, bytes: address.bytes.start..mask.bytes.end })
    }

    /// The line that it was read from, with a reference to a network's range in its place.
    #[must_use]
    pub fn named(&self, line: &str, network: NetworkName) -> String {
        format!("{}${{range:{network}}}{}", &line[..self.bytes.start], &line[self.bytes.end..])
    }
}

/// What a line says of addresses.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum HbaAddress {
    /// `all`.
    All,
    /// A range.
    Range(HbaRange),
    /// An address with a mask that is no prefix, such as `255.0.255.0`.
    Masked {
        /// The address.
        base: IpAddr,
        /// The bits of it that count.
        mask: IpAddr,
    },
    /// `samehost`, `samenet`: the server's own addresses, or its own networks.
    Own(&'static str),
    /// A host's name, or the end of one, which begins with a dot.
    Name(String),
}

impl HbaAddress {
    /// The addresses of a line. `None` for a comment, `local`, and what is no line of `pg_hba.conf`.
    #[must_use]
    pub fn of(line: &str) -> Option<Self> {
        if let Some(range) = HbaRange::of(line) {
            return Some(Self::Range(range));
        }
        let fields = fields(line);
        let address = fields.get(3).filter(|_| fields[0].text.starts_with("host"))?;
        // In quotes it is a name, whatever it says.
        match &line[address.bytes.clone()] {
            "all" => return Some(Self::All),
            "samehost" => return Some(Self::Own("samehost")),
            "samenet" => return Some(Self::Own("samenet")),
            _ => {}
        }
        let numbers = |field: &Field| field.text.parse::<IpAddr>().ok();
        Some(match (numbers(address), fields.get(4).and_then(numbers)) {
            (Some(base), Some(mask)) => Self::Masked { base, mask },
            _ => Self::Name(address.text.clone()),
        })
    }

    /// Whether it holds an address. Which ones a host has and which name an address has is not known here: it holds none.
    #[must_use]
    pub fn holds(&self, client: IpAddr) -> bool {
        match self {
            Self::All => true,
            Self::Range(found) => found.range.contains(&client),
            Self::Masked { base, mask } => match (base, mask, client) {
                (IpAddr::V4(base), IpAddr::V4(mask), IpAddr::V4(client)) => {
                    base.to_bits() & mask.to_bits() == client.to_bits() & mask.to_bits()
                }
                (IpAddr::V6(base), IpAddr::V6(mask), IpAddr::V6(client)) => {
                    base.to_bits() & mask.to_bits() == client.to_bits() & mask.to_bits()
                }
                _ => false,
            },
            Self::Own(_) | Self::Name(_) => false,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn fields_lose_their_quotes_and_keep_their_places() {
        let line = "hostssl \"my base\",app, other\tapp ::/0 cert # behind a comma goes on";
        let fields = fields(line);
        let texts: Vec<&str> = fields.iter().map(|field| field.text.as_str()).collect();
        assert_eq!(texts, ["hostssl", "my base,app,other", "app", "::/0", "cert"]);
        let written: Vec<&str> = fields.iter().map(|field| &line[field.bytes.clone()]).collect();
        assert_eq!(written, ["hostssl", "\"my base\",app, other", "app", "::/0", "cert"]);
    }

    #[test]
    fn a_range_is_found_with_its_mask_and_replaced_where_it_stands() {
        for (line, range, replaced) in [
            ("host all all 10.0.0.0/8 trust", "10.0.0.0/8", "host all all ${range:sites} trust"),
            ("  hostssl  all all  \"10.1.2.3/8\"  cert # pods", "10.0.0.0/8", "  hostssl  all all  ${range:sites}  cert # pods"),
            ("hostnossl all all 10.0.0.0\t255.255.0.0 reject", "10.0.0.0/16", "hostnossl all all ${range:sites} reject"),
            ("hostssl all all fd00::/8 cert", "fd00::/8", "hostssl all all ${range:sites} cert"),
        ] {
            let found = HbaRange::of(line).unwrap_or_else(|| panic!("{line} has a range"));
            assert_eq!((found.range.to_string().as_str(), found.named(line, NetworkName::Sites).as_str()), (range, replaced));
        }
        for line in [
            "",
            "# host all all 10.0.0.0/8 trust",
            "local all all peer",
            "hostssl all all all cert",
            "host all all samenet md5",
            "host all",
        ] {
            assert_eq!(HbaRange::of(line), None, "{line}");
        }
    }

    #[test]
    fn addresses_that_are_no_range_are_told_apart() {
        let address = |line: &str| HbaAddress::of(line);
        assert_eq!(address("host all all all trust"), Some(HbaAddress::All));
        assert_eq!(address("host all all \"all\" trust"), Some(HbaAddress::Name("all".to_owned())));
        assert_eq!(address("host all all samehost trust"), Some(HbaAddress::Own("samehost")));
        assert_eq!(address("host all all samenet trust"), Some(HbaAddress::Own("samenet")));
        assert_eq!(address("host all all .shop.example trust"), Some(HbaAddress::Name(".shop.example".to_owned())));
        assert!(matches!(address("host all all 10.0.0.0/8 trust"), Some(HbaAddress::Range(_))));
        for line in ["", "# host all all all trust", "local all all peer", "host all"] {
            assert_eq!(address(line), None, "{line}");
        }
    }

    #[test]
    fn a_mask_that_is_no_prefix_holds_the_addresses_whose_bits_are_the_same() {
        let four = HbaAddress::of("host all all 10.0.7.0 255.0.255.0 trust").expect("an address");
        let six = HbaAddress::of("host all all fd00::7 ff00::ff trust").expect("an address");
        for (address, client, holds) in [
            (&four, "10.99.7.1", true),
            (&four, "10.99.8.1", false),
            (&four, "fd00::7", false),
            (&six, "fd12::107", true),
            (&six, "fd12::8", false),
        ] {
            assert_eq!(address.holds(client.parse().expect("an address")), holds, "{address:?} {client}");
        }
    }
}
