//! Lines of `pg_hba.conf` and `pg_ident.conf` that PostgreSQL does not take. CloudNativePG's webhook lets them through: PostgreSQL then does not
//! start, and at a reload goes on with the lines that it had.
//!
//! Source: PostgreSQL 18 manual, "The pg_hba.conf File" and "User Name Maps"; `parse_hba_line` in `src/backend/libpq/hba.c`.

mod line;

use std::net::IpAddr;

use load::LoadError;

use super::source::Source;
pub use line::{HbaAddress, HbaRange};

/// What a line of `pg_hba.conf` can begin with.
const TYPES: [&str; 6] = ["host", "hostgssenc", "hostnogssenc", "hostnossl", "hostssl", "local"];

/// The methods of PostgreSQL 15 to 18.
const METHODS: [&str; 15] = [
    "bsd",
    "cert",
    "gss",
    "ident",
    "ldap",
    "md5",
    "oauth",
    "pam",
    "password",
    "peer",
    "radius",
    "reject",
    "scram-sha-256",
    "sspi",
    "trust",
];

/// The methods under which a client's name is mapped by `pg_ident.conf`.
const MAPPED: [&str; 6] = ["cert", "gss", "ident", "oauth", "peer", "sspi"];

/// Checks the user's lines of a Cluster.
pub(super) fn check(cluster: &Source) -> Result<(), LoadError> {
    type Objection = fn(&str) -> Option<String>;
    for (field, objection) in [("pg_hba", hba_objection as Objection), ("pg_ident", ident_objection)] {
        let path = ["spec", "postgresql", field];
        for (index, item) in cluster.tree().items_at(&path).iter().enumerate() {
            // An item can hold several lines.
            for line in item.text().unwrap_or_default().lines() {
                if let Some(why) = objection(line) {
                    let message = format!("`{}` is no line of {field}.conf that PostgreSQL takes: {why}", line.trim());
                    return Err(cluster.error(&[&path[..], &[&index.to_string()]].concat(), message));
                }
            }
        }
    }
    Ok(())
}

/// Why PostgreSQL does not take a line of `pg_hba.conf`, in its own words where it has some.
pub(super) fn hba_objection(line: &str) -> Option<String> {
    let fields = texts(line);
    let (kind, rest) = fields.split_first()?;
    if let Some(why) = elsewhere(line, &fields) {
        return Some(why);
    }
    if !TYPES.contains(&kind.as_str()) {
        return Some(format!("`{kind}` is no type of connection: {} are", TYPES.join(", ")));
    }
    let behind_address = match (kind.as_str(), rest) {
        ("local", [_database, _user, rest @ ..]) => rest,
        ("local", _) => return Some("it needs a database, a user and a method".to_owned()),
        (_, [_database, _user, address, rest @ ..]) => match with_mask(address, rest) {
            Ok(rest) => rest,
            Err(error) => return Some(error.to_string()),
        },
        _ => return Some("it needs a database, a user, an address and a method".to_owned()),
    };
    let Some((method, options)) = behind_address.split_first() else { return Some("it ends before its method".to_owned()) };
    method_objection(kind, method).or_else(|| options.iter().find_map(|option| option_objection(kind, method, option)))
}

/// Why PostgreSQL does not take a line of `pg_ident.conf`.
pub(super) fn ident_objection(line: &str) -> Option<String> {
    let fields = texts(line);
    match fields.as_slice() {
        [] => None,
        fields if elsewhere(line, fields).is_some() => elsewhere(line, fields),
        [_map, _system_user, _database_user, ..] => None,
        _ => Some("it needs a map, a name of the system and a user of the database".to_owned()),
    }
}

/// The texts of a line's fields.
fn texts(line: &str) -> Vec<String> {
    line::fields(line).into_iter().map(|field| field.text).collect()
}

/// What stands in another file, or has a meaning in scenarios alone.
fn elsewhere(line: &str, fields: &[String]) -> Option<String> {
    let includes = fields.first().is_some_and(|first| ["include", "include_dir", "include_if_exists"].contains(&first.as_str()));
    if includes || fields.iter().any(|field| field.split(',').any(|name| name.starts_with('@'))) {
        return Some("another file is not there: write here what it holds".to_owned());
    }
    line.contains("${").then(|| {
        "`${...}` is replaced in scenarios, not in manifests: write the range, and say with --network which network it is".to_owned()
    })
}

/// What is wrong with the address of a line, by cause.
#[derive(Debug, thiserror::Error)]
enum AddressError {
    #[error("`{address}` is no range of addresses: `{base}` is no address")]
    Base { address: String, base: String },
    #[error("`{address}` is no range of addresses: behind the slash stands 0 to {longest}")]
    Length { address: String, longest: u8 },
    #[error("behind `{address}` a netmask is missing: one address alone is `{address}/{longest}`")]
    NoMask { address: String, longest: u8 },
}

/// The fields behind an address, which is a range, a name, or an address with a mask behind it.
fn with_mask<'a>(address: &str, rest: &'a [String]) -> Result<&'a [String], AddressError> {
    let longest = |address: IpAddr| if address.is_ipv4() { 32 } else { 128 };
    if let Some((base, length)) = address.split_once('/') {
        let Ok(parsed) = base.parse() else {
            return Err(AddressError::Base { address: address.to_owned(), base: base.to_owned() });
        };
        let longest = longest(parsed);
        return match length.parse::<u8>() {
            Ok(length) if length <= longest => Ok(rest),
            _ => Err(AddressError::Length { address: address.to_owned(), longest }),
        };
    }
    let Ok(parsed) = address.parse() else { return Ok(rest) };
    match rest.split_first() {
        Some((mask, rest)) if mask.parse::<IpAddr>().is_ok() => Ok(rest),
        _ => Err(AddressError::NoMask { address: address.to_owned(), longest: longest(parsed) }),
    }
}

fn method_objection(kind: &str, method: &str) -> Option<String> {
    if !METHODS.contains(&method) {
        return Some(format!("`{method}` is no method: {} are", METHODS.join(", ")));
    }
    match method {
        "cert" if kind != "hostssl" => Some("cert authentication is only supported on hostssl connections".to_owned()),
        "peer" if kind != "local" => Some("peer authentication is only supported on local sockets".to_owned()),
        "gss" if kind == "local" => Some("gssapi authentication is not supported on local sockets".to_owned()),
        _ => None,
    }
}

fn option_objection(kind: &str, method: &str, option: &str) -> Option<String> {
    let Some((name, value)) = option.split_once('=') else {
        return Some(format!("authentication option not in name=value format: {option}"));
    };
    match name {
        "map" if !MAPPED.contains(&method) => {
            Some(format!("the option `map` is of no use with the method {method}: it is valid for {}", MAPPED.join(", ")))
        }
        "clientcert" | "clientname" if kind != "hostssl" => Some(format!("{name} can only be configured for \"hostssl\" rows")),
        "clientcert" if method == "cert" && value != "verify-full" => {
            Some("clientcert only accepts \"verify-full\" when using \"cert\" authentication".to_owned())
        }
        "clientcert" if !["verify-ca", "verify-full"].contains(&value) => {
            Some(format!("invalid value for clientcert: `{value}`; verify-ca and verify-full are allowed"))
        }
        "clientname" if !["CN", "DN"].contains(&value) => Some(format!("invalid value for clientname: `{value}`; CN and DN are allowed")),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_that_postgresql_takes_have_no_objection() {
        for line in [
            "",
            "  # all by certificate",
            "hostssl all all 0.0.0.0/0 cert",
            "hostssl all all all cert clientcert=verify-full map=nautobot",
            "hostssl \"my base\",app, other  app ::/0 cert # behind a comma goes on",
            "host all all 10.0.0.0 255.0.0.0 scram-sha-256",
            "host all all samenet md5",
            "host all all .example.com reject",
            "hostssl all all 0.0.0.0/0 scram-sha-256 clientcert=verify-ca clientname=DN",
            "local all all peer map=local",
            "host all all 0.0.0.0/0 ldap ldapserver=ldap.example.com ldapprefix=\"cn=\"",
        ] {
            assert_eq!(hba_objection(line), None, "{line}");
        }
        assert_eq!(ident_objection("nautobot /^(.*)$ app"), None);
    }

    #[test]
    fn each_line_that_postgresql_does_not_take_is_objected_to_for_its_reason() {
        for (line, why) in [
            ("hostsll all all 0.0.0.0/0 cert", "`hostsll` is no type of connection"),
            ("hostssl all all cert", "ends before its method"),
            ("hostssl all all", "needs a database, a user, an address and a method"),
            ("local all peer", "ends before its method"),
            ("local all", "needs a database, a user and a method"),
            ("hostssl all all 0.0.0.0/33 cert", "behind the slash stands 0 to 32"),
            ("hostssl all all 10.0.0/8 cert", "`10.0.0` is no address"),
            ("hostssl all all 10.0.0.1 cert", "one address alone is `10.0.0.1/32`"),
            ("hostssl all all 0.0.0.0/0 certificate", "`certificate` is no method"),
            ("host all all 0.0.0.0/0 cert", "cert authentication is only supported on hostssl connections"),
            ("hostssl all all 0.0.0.0/0 peer", "peer authentication is only supported on local sockets"),
            ("hostssl all all 0.0.0.0/0 cert clientcert=verify-ca", "clientcert only accepts"),
            ("hostssl all all 0.0.0.0/0 trust clientcert=1", "invalid value for clientcert"),
            ("host all all 0.0.0.0/0 trust clientcert=verify-ca", "clientcert can only be configured for"),
            ("hostssl all all 0.0.0.0/0 cert verify-full", "not in name=value format: verify-full"),
            ("hostssl all all 0.0.0.0/0 trust map=nautobot", "of no use with the method trust"),
            ("include /etc/postgresql/more.conf", "another file is not there"),
            ("hostssl all app,@admins all cert", "another file is not there"),
            ("hostssl all all ${range:pods} cert", "is replaced in scenarios, not in manifests"),
        ] {
            let objection = hba_objection(line).unwrap_or_else(|| panic!("{line} was taken"));
            assert!(objection.contains(why), "{line}: {objection}");
        }
        assert!(ident_objection("nautobot app").is_some());
        assert!(ident_objection("include /more").is_some());
    }
}
