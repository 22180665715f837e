//! Whether the programs of `--exec-driver` are there.

use std::ffi::OsStr;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};

use thiserror::Error;

use session::drivers::OwnDriver;

/// A program that can't be run.
#[derive(Debug, Error)]
pub(super) enum ProgramError {
    /// A path that leads to nothing, or to something that can't be looked at.
    #[error("--exec-driver {option}: could not look at {}: {source}", .path.display())]
    Path { option: String, path: PathBuf, source: std::io::Error },
    /// A folder, or a file without the permission.
    #[error("--exec-driver {option}: {} is not an executable file: `chmod +x` makes it one", .path.display())]
    NotExecutable { option: String, path: PathBuf },
    /// A name without a `/`, in no folder of `PATH`.
    #[error(
        "--exec-driver {option}: no folder of PATH has a program `{name}`: looked in {looked}; for one of this folder write {}",
        local(option)
    )]
    NotInPath { option: String, name: String, looked: String },
}

fn local(option: &str) -> String {
    option.replacen('=', "=./", 1)
}

/// Looks for each program as the system does when it starts it: a name without `/` in the folders of `path`, the value of `PATH`.
pub(super) fn check(drivers: &[OwnDriver], path: Option<&OsStr>) -> Result<(), ProgramError> {
    drivers.iter().try_for_each(|driver| check_one(driver, path.unwrap_or_default()))
}

fn check_one(driver: &OwnDriver, path: &OsStr) -> Result<(), ProgramError> {
    let (option, program) = (driver.to_string(), &driver.program);
    if !program.as_os_str().as_encoded_bytes().contains(&b'/') {
        let folders: Vec<PathBuf> = std::env::split_paths(path).collect();
        if folders.iter().any(|folder| is_executable(&folder.join(program)).unwrap_or(false)) {
            return Ok(());
        }
        let looked: Vec<String> = folders.iter().map(|folder| folder.display().to_string()).collect();
        return Err(ProgramError::NotInPath { option, name: program.display().to_string(), looked: looked.join(", ") });
    }
    let path = std::path::absolute(program).unwrap_or_else(|_| program.clone());
    match is_executable(&path) {
        Ok(true) => Ok(()),
        Ok(false) => Err(ProgramError::NotExecutable { option, path }),
        Err(source) => Err(ProgramError::Path { option, path, source }),
    }
}

/// Whether it is a file that somebody may execute.
fn is_executable(path: &Path) -> std::io::Result<bool> {
    let found = std::fs::metadata(path)?;
    Ok(found.is_file() && found.permissions().mode() & 0o111 != 0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_program_that_can_not_be_run_says_what_was_tried() {
        let folder = tempfile::tempdir().expect("makes a folder");
        let at = |name: &str| folder.path().join(name);
        std::fs::write(at("plain"), "").expect("writes");
        std::fs::write(at("client"), "").expect("writes");
        std::fs::set_permissions(at("client"), std::fs::Permissions::from_mode(0o755)).expect("permits");
        let path = std::env::join_paths([folder.path(), Path::new("/nowhere")]).expect("a PATH");
        let said = |program: &Path| {
            let own: OwnDriver = format!("mine={}", program.display()).parse().expect("is valid");
            check(&[own], Some(&path)).map_err(|error| error.to_string())
        };
        assert_eq!(said(&at("client")), Ok(()));
        assert_eq!(said(Path::new("client")), Ok(()));
        let (here, none, plain) = (folder.path().display(), at("none"), at("plain"));
        let (none_at, plain_at) = (none.display(), plain.display());
        assert_eq!(
            said(&none),
            Err(format!("--exec-driver mine={none_at}: could not look at {none_at}: No such file or directory (os error 2)"))
        );
        assert_eq!(
            said(&plain),
            Err(format!("--exec-driver mine={plain_at}: {plain_at} is not an executable file: `chmod +x` makes it one"))
        );
        assert_eq!(
            said(Path::new("nope")),
            Err(format!(
                "--exec-driver mine=nope: no folder of PATH has a program `nope`: looked in {here}, /nowhere; for one of this folder \
                 write mine=./nope"
            ))
        );
    }
}
