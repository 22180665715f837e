//! Broken environments: each gives an error with the log's place and the last words, and gives it again when asked again.

use std::os::unix::fs::PermissionsExt as _;

use super::postgres::assert_nothing_left;
use super::*;
use os::tree;

/// A directory of programs in which `postgres` is this shell script; `initdb` is the real one's.
fn script(directory: &Path, body: &str) -> PathBuf {
    let bin = directory.join("bin");
    std::fs::create_dir(&bin).expect("makes");
    write_script(&bin.join("postgres"), body);
    bin
}

fn write_script(path: &Path, body: &str) {
    std::fs::write(path, format!("#!/bin/sh\n{body}\n")).expect("writes");
    std::fs::set_permissions(path, std::fs::Permissions::from_mode(0o755)).expect("chmod");
    // Prepared data directories are kept by the time of `postgres`: always the same one, so that they are found again.
    let file = std::fs::File::options().write(true).open(path).expect("opens");
    file.set_modified(std::time::UNIX_EPOCH + Duration::from_secs(1)).expect("sets the time");
}

/// The real build's `postgres` for everything but serving.
fn real_but(serving: &str) -> String {
    let real = toolchain().postgres[0].bin.join("postgres");
    format!("case \"$1\" in --version|-V|--single|--boot|--check) exec {real} \"$@\";; esac\n{serving}", real = real.display())
}

fn with_postgres(body: &str) -> Fixture {
    Fixture::with(|options, run| {
        let bin = script(run, body);
        // A prepared data directory of the real build: this test is about what comes after.
        options.toolchain.postgres.truncate(1);
        let real = options.toolchain.postgres[0].bin.clone();
        write_script(&bin.join("initdb"), &format!("exec {} \"$@\"", real.join("initdb").display()));
        options.toolchain.postgres[0].bin = bin;
        options.start_limit = Duration::from_secs(2);
    })
}

async fn error_of(fixture: &Fixture, key: ServerKey) -> EnvironmentError {
    let error = fixture.environment.server(key).await.map(|_| ()).expect_err("it can't start");
    let again = fixture.environment.server(key).await.map(|_| ()).expect_err("it can't start");
    assert_eq!(error.to_string(), again.to_string(), "the same error at later calls");
    assert!(matches!(error, EnvironmentError::Start { .. }), "{error}");
    fixture.environment.close().await;
    assert_nothing_left(fixture.run.path()).await;
    error
}

async fn postgres_error(fixture: &Fixture) -> String {
    error_of(fixture, postgres_key(any_major())).await.to_string()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_missing_binary_is_named_with_what_brings_it() {
    let fixture = Fixture::with(|options, run| options.toolchain.postgres[0].bin = run.join("nothing"));
    let error = postgres_error(&fixture).await;
    assert!(error.contains("nothing/postgres does not exist") && error.contains("make setup"), "{error}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_binary_of_another_version_is_refused_with_expected_and_found() {
    let fixture = with_postgres("echo 'postgres (PostgreSQL) 9.6.24'");
    let error = postgres_error(&fixture).await;
    assert!(error.contains(&format!("should be PostgreSQL {}", any_major())) && error.contains("9.6.24"), "{error}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_binary_that_fails_at_once_is_quoted() {
    let fixture = with_postgres("echo 'error while loading shared libraries: libssl.so.1.1' >&2; exit 127");
    let error = postgres_error(&fixture).await;
    assert!(error.contains("libssl.so.1.1") && error.contains("127") && error.contains(".version.log"), "{error}");
}

#[tokio::test(flavor = "multi_thread")]
async fn an_early_exit_is_told_with_status_last_lines_and_log() {
    let fixture = with_postgres(&real_but("echo 'could not map anonymous shared memory' >&2; exit 3"));
    let error = postgres_error(&fixture).await;
    assert!(error.contains("ended early with exit status: 3") && error.contains("anonymous shared memory"), "{error}");
    assert!(error.contains("output.log"), "{error}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_hang_at_start_is_bounded_and_leaves_nothing() {
    let fixture = with_postgres(&real_but("echo 'thinking' >&2; trap '' QUIT; exec sleep 1000"));
    let start = std::time::Instant::now();
    let error = postgres_error(&fixture).await;
    assert!(error.contains("was not ready within 2s") && error.contains("thinking"), "{error}");
    assert!(start.elapsed() < Duration::from_secs(20));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_failing_initdb_is_quoted() {
    let fixture = Fixture::with(|options, run| {
        let bin = script(run, &real_but("exit 1"));
        write_script(&bin.join("initdb"), "echo 'initdb: error: no space left' >&2; exit 1");
        options.toolchain.postgres[0].bin = bin;
        options.cache_directory = run.join("cache");
    });
    let error = postgres_error(&fixture).await;
    assert!(error.contains("initdb: error: no space left") && error.contains("exit status: 1"), "{error}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_configuration_that_the_server_cannot_start_with_is_told_in_its_words() {
    struct Bad;
    impl Configurator for Bad {
        fn files(&self, _: ServerKey, _: &ServerConfig, paths: &Paths) -> Result<Vec<ConfigFile>, ConfigError> {
            let contents = "ssl = on\nssl_cert_file = '/nonexistent.crt'\n";
            Ok(vec![ConfigFile::of_server(paths.data.join("postgresql.conf"), contents, 0o644)])
        }
    }
    let fixture = Fixture::with(|options, _| options.configurator = Arc::new(Bad));
    let error = postgres_error(&fixture).await;
    assert!(error.contains("/nonexistent.crt") && error.contains("output.log"), "{error}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_configuration_that_cannot_be_rendered_is_told_at_the_start() {
    struct Unable;
    impl Configurator for Unable {
        fn files(&self, _: ServerKey, _: &ServerConfig, _: &Paths) -> Result<Vec<ConfigFile>, ConfigError> {
            Err(unknown("Secret", "tls-of-nobody"))
        }
    }
    let fixture = Fixture::with(|options, _| options.configurator = Arc::new(Unable));
    let error = postgres_error(&fixture).await;
    assert!(error.contains("did not start: there is no Secret `tls-of-nobody`"), "{error}");
}

/// Ports in this order, then free ones.
fn ports(first: &[u16], then_free: bool) -> PortSource {
    let queue = Mutex::new(first.to_vec());
    let last = *first.last().expect("a port");
    Arc::new(move |addresses| {
        let mut queue = queue.lock().expect("no panic");
        match (queue.is_empty(), then_free) {
            (false, _) => Ok(queue.remove(0)),
            (true, true) => free_port(addresses),
            (true, false) => Ok(last),
        }
    })
}

#[tokio::test(flavor = "multi_thread")]
async fn a_taken_port_makes_it_try_another() {
    let listener = std::net::TcpListener::bind("127.0.0.1:0").expect("a port");
    let taken = listener.local_addr().expect("an address").port();
    let fixture = Fixture::with(|options, _| options.ports = ports(&[taken], true));
    let server = fixture.environment.server(postgres_key(any_major())).await.expect("it starts elsewhere");
    assert_ne!(server.address().port(), taken);
    connect_postgres(server.address(), Some(&fixture.configurator.app)).await.1.expect("a session");
    fixture.environment.close().await;
    let fixture = Fixture::with(|options, _| options.ports = ports(&[taken], true));
    let server = fixture.environment.server(redis_key()).await.expect("it starts elsewhere");
    assert_ne!(server.address().port(), taken);
    fixture.environment.close().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_port_that_is_taken_on_ipv6_alone_is_noticed_too() {
    let Ok(listener) = std::net::TcpListener::bind("[::1]:0") else { return };
    let taken = listener.local_addr().expect("an address").port();
    let fixture = Fixture::with(|options, _| options.ports = ports(&[taken], true));
    let server = fixture.environment.server(postgres_key(any_major())).await.expect("it starts elsewhere");
    assert_ne!(server.address().port(), taken);
    fixture.environment.close().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn ports_that_are_all_taken_are_an_error_in_the_servers_words() {
    let listener = std::net::TcpListener::bind("127.0.0.1:0").expect("a port");
    let taken = listener.local_addr().expect("an address").port();
    for key in [postgres_key(any_major()), redis_key()] {
        let fixture = Fixture::with(|options, _| options.ports = ports(&[taken], false));
        let error = error_of(&fixture, key).await.to_string();
        assert!(error.contains("Address already in use") && error.contains(&taken.to_string()), "{error}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_cache_that_cannot_be_written_says_so() {
    let fixture = Fixture::with(|options, run| {
        // A file where the directory should be: root can write anywhere else.
        std::fs::write(run.join("cache"), "").expect("writes");
        options.cache_directory = run.join("cache");
    });
    let error = postgres_error(&fixture).await;
    assert!(error.contains("the cache directory must be writable") && error.contains("/cache"), "{error}");
}

#[tokio::test(flavor = "multi_thread")]
async fn an_interrupted_cache_entry_is_made_anew() {
    let fixture = Fixture::with(|options, run| {
        options.cache_directory = run.join("cache");
        options.toolchain.postgres.truncate(1);
    });
    let cache = fixture.run.path().join("cache");
    fixture.environment.server(postgres_key(any_major())).await.expect("it starts");
    fixture.environment.close().await;
    let directories = || -> Vec<PathBuf> {
        std::fs::read_dir(&cache).expect("a cache").flatten().map(|entry| entry.path()).filter(|path| path.is_dir()).collect()
    };
    let made = directories().pop().expect("an entry");
    // As if a process had been killed while it copied.
    std::fs::rename(&made, made.with_extension("partial")).expect("renames");
    let second = Fixture::with(|options, _| {
        options.cache_directory.clone_from(&cache);
        options.toolchain.postgres.truncate(1);
    });
    second.environment.server(postgres_key(any_major())).await.expect("it starts");
    second.environment.close().await;
    assert_eq!(directories(), [made]);
}

#[tokio::test(flavor = "multi_thread")]
async fn environments_that_race_for_the_cache_share_its_entry() {
    let cache = run_directory();
    let make = || {
        Fixture::with(|options, _| {
            options.cache_directory = cache.path().join("cache");
            options.toolchain.postgres.truncate(1);
        })
    };
    let (first, second) = (make(), make());
    let key = postgres_key(any_major());
    let (one, other) = tokio::join!(first.environment.server(key), second.environment.server(key));
    one.expect("it starts");
    other.expect("it starts");
    first.environment.close().await;
    second.environment.close().await;
    let entries = std::fs::read_dir(cache.path().join("cache")).expect("a cache").count();
    assert_eq!(entries, 2, "one entry and its lock");
    let initdb_ran = |fixture: &Fixture| {
        std::fs::read_dir(fixture.run.path())
            .expect("a directory")
            .flatten()
            .any(|entry| entry.file_name().to_string_lossy().starts_with("initdb-"))
    };
    assert!(initdb_ran(&first) != initdb_ran(&second), "exactly one of them ran initdb");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_full_disk_is_told_with_the_file_that_did_not_fit() {
    // Only root can make a small file system.
    let run = run_directory();
    let mounted = std::process::Command::new("mount").args(["-t", "tmpfs", "-o", "size=6m,mode=755", "tmpfs"]).arg(run.path()).output();
    if !mounted.is_ok_and(|output| output.status.success()) {
        return;
    }
    let unmount = Unmount(run.path().to_path_buf());
    let filled = Fixture::new();
    // The cache must be there already: its making would fail first.
    filled.environment.server(postgres_key(any_major())).await.expect("it starts");
    filled.environment.close().await;
    let fixture = Fixture::with(|options, _| options.run_directory = run.path().to_path_buf());
    let error = error_of(&fixture, postgres_key(any_major())).await.to_string();
    assert!(error.contains("No space left on device") && error.contains("could not copy"), "{error}");
    drop(unmount);
}

struct Unmount(PathBuf);

impl Drop for Unmount {
    fn drop(&mut self) {
        let _ = std::process::Command::new("umount").arg("--lazy").arg(&self.0).output();
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_build_that_the_servers_user_cannot_reach_is_copied() {
    // Only root runs servers as another user.
    if RunAs::unprivileged().is_none() {
        return;
    }
    let closed = run_directory();
    let build = toolchain()
        .postgres
        .iter()
        .find(|build| build.bin.ends_with("native/bin"))
        .or(toolchain().postgres.first())
        .cloned()
        .expect("a build");
    let root = closed.path().join("build");
    std::fs::create_dir(&root).expect("makes");
    if build.bin.ends_with("native/bin") {
        for part in ["bin", "lib", "share"] {
            tree::copy(&build.bin.with_file_name(part), &root.join(part), None).expect("copies");
        }
    } else {
        // The distribution's is compiled for its place: programs that lead there are enough to see that the copy is used.
        std::fs::create_dir(root.join("bin")).expect("makes");
        for program in ["postgres", "initdb"] {
            write_script(&root.join("bin").join(program), &format!("exec {} \"$@\"", build.bin.join(program).display()));
        }
    }
    std::fs::set_permissions(closed.path(), std::fs::Permissions::from_mode(0o700)).expect("chmod");
    let fixture = Fixture::with(|options, run| {
        options.toolchain.postgres = vec![PostgresBuild { bin: root.join("bin"), ..build.clone() }];
        options.cache_directory = run.join("cache");
    });
    let server = fixture.environment.server(postgres_key(build.major)).await.expect("it starts from a copy");
    connect_postgres(server.address(), Some(&fixture.configurator.app)).await.1.expect("a session");
    assert!(fixture.run.path().join(format!("build-{}/bin/postgres", build.major)).is_file());
    fixture.environment.close().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_redis_that_is_missing_or_refuses_its_file_is_told() {
    let fixture = Fixture::with(|options, run| {
        options.toolchain.redis = Some(Tool { path: run.join("no-redis"), version: "7.0.15".to_owned() });
    });
    let error = error_of(&fixture, redis_key()).await.to_string();
    assert!(error.contains("no-redis") && error.contains("is it installed"), "{error}");
    let fixture = Fixture::with(|options, run| {
        write_script(&run.join("old-redis"), "echo 'Bad directive or wrong number of arguments' >&2; exit 1");
        options.toolchain.redis = Some(Tool { path: run.join("old-redis"), version: "7.0.15".to_owned() });
    });
    let error = error_of(&fixture, redis_key()).await.to_string();
    assert!(error.contains("Bad directive") && error.contains("exit status: 1"), "{error}");
}
