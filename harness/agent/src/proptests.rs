//! Properties of frames, lines and archives. `PROPTEST_CASES` says how many inputs of each.

use std::path::PathBuf;

use proptest::collection::{btree_map, vec};
use proptest::prelude::*;
use proptest::sample::{Index, select};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};

use super::frame::{Kind, MAX_FRAME};
use super::protocol::{Envelope, Owner, Request};
use super::{DirectorySpec, FileSpec, RelaySpec, line, properties};
use model::server::Service;

fn kind() -> impl Strategy<Value = Kind> {
    select(vec![Kind::Input, Kind::InputEnd, Kind::Signal, Kind::Kill, Kind::Output, Kind::Log, Kind::Exit, Kind::Data, Kind::DataEnd])
}

fn owner() -> impl Strategy<Value = Option<Owner>> {
    any::<Option<(u32, u32)>>().prop_map(|owner| owner.map(|(uid, gid)| Owner { uid, gid }))
}

fn path() -> impl Strategy<Value = PathBuf> {
    "/[a-z \"\\\\\u{e9}\n]{0,12}".prop_map(PathBuf::from)
}

fn request() -> impl Strategy<Value = Request> {
    let file = (path(), vec(any::<u8>(), 0..60), any::<u32>(), owner());
    let relay = (any::<std::net::SocketAddr>(), any::<Option<std::net::IpAddr>>(), any::<std::net::IpAddr>(), any::<bool>());
    prop_oneof![
        Just(()).prop_map(|()| Request::Survey),
        Just(()).prop_map(|()| Request::Hold),
        vec((path(), any::<u32>(), owner()), 0..3).prop_map(|all| {
            Request::MakeDirectories(all.into_iter().map(|(path, mode, owner)| DirectorySpec { path, mode, owner }).collect())
        }),
        vec(file, 0..3).prop_map(|all| {
            Request::Write(all.into_iter().map(|(path, contents, mode, owner)| FileSpec { path, contents, mode, owner }).collect())
        }),
        vec(path(), 0..3).prop_map(Request::Remove),
        path().prop_map(Request::Length),
        (path(), any::<u64>()).prop_map(|(path, from)| Request::Follow { path, from }),
        any::<(std::net::SocketAddr, Option<std::net::IpAddr>)>().prop_map(|(server, source)| Request::Dial { server, source }),
        path().prop_map(Request::Pack),
        (path(), owner()).prop_map(|(directory, owner)| Request::Unpack { directory, owner }),
        relay.prop_map(|(upstream, source, listen, redis)| {
            let service = if redis { Service::Redis } else { Service::Postgres };
            Request::OpenRelay(RelaySpec { upstream, source, listen, service })
        }),
    ]
}

/// Two ends of a connection.
async fn connected() -> (TcpStream, TcpStream) {
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
    let ours = TcpStream::connect(listener.local_addr().expect("bound")).await.expect("connects");
    (ours, listener.accept().await.expect("accepts").0)
}

fn run<T>(test: impl Future<Output = T>) -> T {
    tokio::runtime::Builder::new_current_thread().enable_io().build().expect("a runtime").block_on(test)
}

proptest! {
    #[test]
    fn frames_are_received_as_they_were_sent(frames in vec((kind(), vec(any::<u8>(), 0..40)), 0..6), cut in any::<Option<Index>>()) {
        let mut stream: Vec<u8> = frames.iter().flat_map(|(kind, content)| properties::sent(*kind, content)).collect();
        if let Some(cut) = cut {
            stream.truncate(cut.index(stream.len() + 1));
        }
        properties::frames(&stream);
    }

    #[test]
    fn any_bytes_are_frames_up_to_an_error(bytes in prop_oneof![vec(any::<u8>(), 0..40), vec(prop_oneof![9 => 0..12_u8, 1 => any::<u8>()], 0..60)]) {
        properties::frames(&bytes);
    }

    #[test]
    fn a_length_beyond_the_largest_frame_is_refused_before_anything_is_read(kind in kind(), beyond in 1..u32::MAX - MAX_FRAME as u32) {
        let header = [&[kind as u8][..], &(MAX_FRAME as u32 + beyond).to_be_bytes()].concat();
        properties::frames(&header);
        let mut rest = &header[..];
        let error = run(super::frame::receive(&mut rest)).expect_err("too long");
        prop_assert_eq!(error.kind(), std::io::ErrorKind::InvalidData, "not the end of the stream, which comes only later");
    }

    #[test]
    fn a_request_is_read_as_it_was_written(token: String, request in request()) {
        let shown = format!("{request:?}");
        let line = serde_json::to_vec(&Envelope { token, request }).expect("it can be written");
        properties::request(&line);
        let read: Envelope<Request> = serde_json::from_slice(&line).expect("it can be read");
        prop_assert_eq!(format!("{:?}", read.request), shown);
        for length in 0..line.len() {
            prop_assert!(serde_json::from_slice::<Envelope<Request>>(&line[..length]).is_err(), "the first {} bytes", length);
        }
    }

    #[test]
    fn any_line_is_a_request_or_none(line in prop_oneof![vec(any::<u8>(), 0..60), "\\{\"(token|request)\":\"(survey|hold|x)?\"\\}".prop_map(String::into_bytes)]) {
        properties::request(&line);
    }

    #[test]
    fn a_line_is_read_without_a_byte_of_what_follows_however_it_arrives(
        text in vec(any::<u8>().prop_filter("no end of line", |byte| *byte != b'\n'), 0..3000),
        behind in vec(any::<u8>(), 0..40),
        cuts in vec(any::<Index>(), 0..3),
    ) {
        let all = [&text[..], b"\n", &behind].concat();
        let mut cuts: Vec<usize> = cuts.into_iter().map(|cut| cut.index(all.len())).chain([0, all.len()]).collect();
        cuts.sort_unstable();
        let (line, rest) = run(async {
            let (mut ours, mut theirs) = connected().await;
            let send = async {
                for pair in cuts.windows(2) {
                    ours.write_all(&all[pair[0]..pair[1]]).await.expect("writes");
                    tokio::task::yield_now().await;
                }
                ours.shutdown().await.expect("ends");
            };
            let receive = async {
                let line = line::read(&mut theirs, 4096).await.expect("a line");
                let mut rest = Vec::new();
                theirs.read_to_end(&mut rest).await.expect("the rest");
                (line, rest)
            };
            tokio::join!(send, receive).1
        });
        prop_assert_eq!((line, rest), (text, behind));
    }

    #[test]
    fn a_line_that_does_not_end_in_time_is_refused(text in vec(1..10_u8, 0..60), max in 0..80_usize) {
        let read = run(async {
            let (mut ours, mut theirs) = connected().await;
            ours.write_all(&text).await.expect("writes");
            ours.shutdown().await.expect("ends");
            line::read(&mut theirs, max).await
        });
        let kind = read.expect_err("no line").kind();
        prop_assert_eq!(kind, if text.len() > max { std::io::ErrorKind::InvalidData } else { std::io::ErrorKind::UnexpectedEof });
    }
}

proptest! {
    // Each case is a directory on the file system, and an agent.
    #![proptest_config(ProptestConfig { cases: 32, ..ProptestConfig::default() })]

    #[test]
    fn a_directory_that_was_packed_and_unpacked_is_the_same(
        files in btree_map("[a-z]{1,4}(/[a-z\u{e9} ]{1,8}){0,2}/f", (vec(any::<u8>(), 0..2000), prop_oneof![Just(0o600_u32), Just(0o640), Just(0o755)]), 0..6),
    ) {
        use std::os::unix::fs::PermissionsExt as _;
        let base = tempfile::tempdir().expect("a directory");
        let (from, to) = (base.path().join("from"), base.path().join("to"));
        std::fs::create_dir(&from).expect("makes");
        for (name, (contents, mode)) in &files {
            let path = from.join(name);
            std::fs::create_dir_all(path.parent().expect("above")).expect("makes");
            std::fs::write(&path, contents).expect("writes");
            std::fs::set_permissions(&path, std::fs::Permissions::from_mode(*mode)).expect("chmod");
        }
        let tar = base.path().join("tar");
        tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime").block_on(async {
            let served = super::tests::served().await;
            served.agent.pack(&from, &tar).await.expect("packs");
            served.agent.unpack(&tar, &to, None).await.expect("unpacks");
        });
        for (name, (contents, mode)) in &files {
            let path = to.join(name);
            prop_assert_eq!(&std::fs::read(&path).expect("it is there"), contents, "{}", name);
            prop_assert_eq!(std::fs::metadata(&path).expect("there").permissions().mode() & 0o7777, *mode, "{}", name);
        }
        prop_assert_eq!(count(&to), count(&from));
    }
}

/// How many files and directories are below one.
fn count(directory: &std::path::Path) -> usize {
    let entries = std::fs::read_dir(directory).expect("a directory").map(|entry| entry.expect("an entry").path());
    entries.map(|path| if path.is_dir() { 1 + count(&path) } else { 1 }).sum()
}
