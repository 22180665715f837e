//! The OpenSSL that a server build is linked with.

use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use super::places::{entries, name_of};

/// The version text, such as `OpenSSL 1.1.1w`, of the library that `bin/postgres` loads; `None` where that can't be told
/// (no `ldd`, or a build without OpenSSL).
pub(super) fn of_server(bin: &Path) -> Option<String> {
    let library = bundled(bin).or_else(|| loaded(&bin.join("postgres")))?;
    version_in(&std::fs::read(library).ok()?)
}

/// The library beside a build that brings its own: those builds are linked with the run path `$ORIGIN/../lib`.
fn bundled(bin: &Path) -> Option<PathBuf> {
    entries(&bin.parent()?.join("lib")).into_iter().find(|path| name_of(path).starts_with("libcrypto.so"))
}

fn loaded(program: &Path) -> Option<PathBuf> {
    let output = Command::new("ldd").arg(program).env("LC_ALL", "C").stdin(Stdio::null()).stderr(Stdio::null()).output().ok()?;
    library_in(&String::from_utf8_lossy(&output.stdout))
}

fn library_in(ldd: &str) -> Option<PathBuf> {
    ldd.lines().find_map(|line| {
        let (name, rest) = line.trim().split_once(" => ")?;
        let path = rest.split(" (").next()?;
        (name.starts_with("libcrypto.so") && path.starts_with('/')).then(|| PathBuf::from(path))
    })
}

/// Finds OpenSSL's own version text, `OpenSSL <version> <day> <month> <year>`, and gives it without the date.
fn version_in(library: &[u8]) -> Option<String> {
    const NAME: &[u8] = b"OpenSSL ";
    let mut rest = library;
    loop {
        // Few bytes are an `O`: this reads a library of megabytes in a few milliseconds.
        let at = rest.iter().position(|byte| *byte == NAME[0])?;
        rest = &rest[at..];
        if rest.starts_with(NAME) {
            let end = rest.iter().position(|byte| !(b' '..=b'~').contains(byte)).unwrap_or(rest.len());
            if let Some(version) = std::str::from_utf8(&rest[..end]).ok().and_then(version_of_text) {
                return Some(version);
            }
        }
        rest = &rest[1..];
    }
}

fn version_of_text(text: &str) -> Option<String> {
    let mut words = text.split_whitespace().skip(1);
    let version = words.next()?;
    let date: Vec<&str> = words.take(3).collect();
    let [day, month, year] = date.as_slice() else {
        return None;
    };
    let is_number = |word: &str| !word.is_empty() && word.bytes().all(|byte| byte.is_ascii_digit());
    let is_version = version.starts_with(|c: char| c.is_ascii_digit()) && version.split('.').count() == 3;
    let is_date = is_number(day) && month.len() == 3 && year.len() == 4 && is_number(year);
    (is_version && is_date).then(|| format!("OpenSSL {version}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_version_text_is_found_between_other_texts_of_the_library() {
        let library = b"\x7fELF\0Other\0OpenSSL error\0OpenSSL 3.0.x\0O\0OpenSSL 1.1.1w  11 Sep 2023\0OpenSSL 3.9.9 1 Jan 2030\0";
        assert_eq!(version_in(library).as_deref(), Some("OpenSSL 1.1.1w"));
        assert_eq!(version_in(b"\0OpenSSL 3.0.19 27 Jan 2026\0").as_deref(), Some("OpenSSL 3.0.19"));
        assert_eq!(version_in(b"\0OpenSSL PKCS#3 DH method\0OpenSSL "), None);
    }

    #[test]
    fn ldd_tells_where_libcrypto_is() {
        let output = "\tlinux-vdso.so.1 (0x00007fc899fdf000)\n\
                      \tlibssl.so.3 => /lib/x86_64-linux-gnu/libssl.so.3 (0x00007f6b0a200000)\n\
                      \tlibcrypto.so.3 => /lib/x86_64-linux-gnu/libcrypto.so.3 (0x00007f6b09c00000)\n";
        assert_eq!(library_in(output), Some(PathBuf::from("/lib/x86_64-linux-gnu/libcrypto.so.3")));
        assert_eq!(library_in("\tlibcrypto.so.1.1 => not found\n"), None);
        assert_eq!(library_in("\tnot a dynamic executable\n"), None);
    }
}
