//! Properties of the readers, with inputs made by proptest: real captures with bytes changed, records and hellos put together, and any
//! bytes. `PROPTEST_CASES` says how many of each.

use proptest::collection::vec;
use proptest::prelude::*;
use proptest::sample::{Index, select};

use super::captures::{ALL, conversation};
use super::hello::{self, ServerHello};
use super::postgres::{Answer, AnswerReader};
use super::properties::{self, Conversation};
use model::connect::TlsVersion;
use model::server::Service;
use model::wire::{ClientHello, Side};

fn side() -> impl Strategy<Value = Side> {
    select(vec![Side::Client, Side::Server])
}

/// A capture in which up to four bytes are others, and which may end early.
fn changed_capture() -> impl Strategy<Value = (Service, Conversation)> {
    (select(ALL.to_vec()), vec((any::<Index>(), any::<Index>(), any::<u8>()), 0..4), any::<Index>(), any::<Option<Index>>()).prop_map(
        |((service, text), changes, cut_segment, cut)| {
            let mut segments = conversation(text);
            for (segment, place, byte) in changes {
                let bytes = &mut segment.get_mut(&mut segments).1;
                *place.get_mut(bytes) = byte;
            }
            if let Some(cut) = cut {
                let at = cut_segment.index(segments.len());
                segments.truncate(at + 1);
                let bytes = &mut segments[at].1;
                bytes.truncate(cut.index(bytes.len()));
            }
            (service, segments)
        },
    )
}

/// Headers that a reader goes on from, with contents and lengths that need not fit.
fn records() -> impl Strategy<Value = Vec<u8>> {
    let kind = prop_oneof![4 => 20..=23_u8, 1 => any::<u8>()];
    let content = prop_oneof![vec(any::<u8>(), 0..4), vec(0..4_u8, 0..40)];
    vec((kind, content, prop_oneof![9 => Just(0_i16), 1 => -3..4_i16]), 0..6).prop_map(|records| {
        let mut stream = Vec::new();
        for (kind, content, off) in records {
            let length = i16::try_from(content.len()).expect("short").saturating_add(off).max(0);
            stream.extend([kind, 3, 1]);
            stream.extend(length.to_be_bytes());
            stream.extend(content);
        }
        stream
    })
}

fn vector(bytes: &[u8]) -> Vec<u8> {
    [&u16::try_from(bytes.len()).expect("short").to_be_bytes()[..], bytes].concat()
}

fn short_vector(bytes: &[u8]) -> Vec<u8> {
    [&[u8::try_from(bytes.len()).expect("short")][..], bytes].concat()
}

fn extension(kind: u16, content: &[u8]) -> Vec<u8> {
    [&kind.to_be_bytes()[..], &vector(content)].concat()
}

fn number(version: TlsVersion) -> [u8; 2] {
    match version {
        TlsVersion::V1_0 => [3, 1],
        TlsVersion::V1_1 => [3, 2],
        TlsVersion::V1_2 => [3, 3],
        TlsVersion::V1_3 => [3, 4],
    }
}

fn version() -> impl Strategy<Value = TlsVersion> {
    select(vec![TlsVersion::V1_0, TlsVersion::V1_1, TlsVersion::V1_2, TlsVersion::V1_3])
}

/// A list of ALPN protocols, as the extension holds it.
fn protocols(names: &[String]) -> Vec<u8> {
    extension(16, &vector(&names.iter().flat_map(|name| short_vector(name.as_bytes())).collect::<Vec<_>>()))
}

/// A ClientHello and its body: what stands before the extensions, and they.
fn client_hello() -> impl Strategy<Value = (ClientHello, Vec<u8>, Vec<u8>)> {
    let fields = (proptest::option::of("[a-z.]{1,30}"), vec("[a-z0-9/.]{1,12}", 0..4), vec(version(), 0..5));
    (fields, any::<[u8; 32]>(), vec(any::<u8>(), 0..32), vec(any::<u8>(), 0..20), any::<u16>()).prop_map(
        |((sni, alpn, versions), random, session, suites, grease)| {
            let mut extensions = extension(grease | 0x0a0a, &suites);
            if let Some(sni) = &sni {
                extensions.extend(extension(0, &vector(&[&[0][..], &vector(sni.as_bytes())].concat())));
            }
            if !alpn.is_empty() {
                extensions.extend(protocols(&alpn));
            }
            // A number that names no version is left out.
            let list = versions.iter().flat_map(|version| [0x7a, 0x7a].into_iter().chain(number(*version))).collect::<Vec<_>>();
            extensions.extend(extension(43, &short_vector(&list)));
            let head = [&[3, 3][..], &random, &short_vector(&session), &vector(&suites), &[1, 0]].concat();
            (ClientHello { sni, alpn, versions }, head, vector(&extensions))
        },
    )
}

proptest! {
    #[test]
    fn a_changed_capture_is_read_alike_however_it_is_cut((service, segments) in changed_capture()) {
        properties::conversation(service, &segments);
    }

    #[test]
    fn any_conversation_is_read_alike_however_it_is_cut(
        redis: bool,
        segments in vec((side(), prop_oneof![vec(any::<u8>(), 0..40), records()]), 0..5),
    ) {
        properties::conversation(if redis { Service::Redis } else { Service::Postgres }, &segments);
    }

    #[test]
    fn records_are_read_alike_however_they_are_cut(side in side(), bytes in prop_oneof![records(), vec(any::<u8>(), 0..60)]) {
        properties::tls_records(side, &bytes);
    }

    #[test]
    fn any_body_of_a_hello_is_read_alike_in_records_of_any_size(side in side(), body in vec(any::<u8>(), 0..120), record in 1..50_usize) {
        properties::hello(side, &body, record);
    }

    #[test]
    fn a_client_hello_says_what_was_written_into_it((expected, head, extensions) in client_hello(), record in 1..300_usize) {
        let body = [&head[..], &extensions].concat();
        prop_assert_eq!(hello::client_hello(&body), Some(expected));
        properties::hello(Side::Client, &body, record);
        for length in 0..body.len() {
            // A hello without extensions has no vector of them either: that is where it may end.
            prop_assert_eq!(hello::client_hello(&body[..length]).is_some(), length == head.len(), "the first {} bytes", length);
        }
    }

    #[test]
    fn a_server_hello_says_what_was_written_into_it(version in version(), alpn in proptest::option::of("[a-z0-9/.]{1,12}"), supported: bool, random: [u8; 32]) {
        let mut extensions = Vec::new();
        if supported {
            extensions.extend(extension(43, &number(version)));
        }
        extensions.extend(alpn.iter().flat_map(|name| protocols(std::slice::from_ref(name))));
        let legacy = if supported { [3, 3] } else { number(version) };
        let head = [&legacy[..], &random, &short_vector(b"session"), &[0x13, 1, 0]].concat();
        let body = [&head[..], &vector(&extensions)].concat();
        prop_assert_eq!(hello::server_hello(&body), Some(ServerHello::Chosen { version: Some(version), alpn }));
        properties::hello(Side::Server, &body, 20);
        for length in 0..body.len() {
            prop_assert_eq!(hello::server_hello(&body[..length]).is_some(), length == head.len(), "the first {} bytes", length);
        }
    }

    #[test]
    fn an_error_response_gives_its_sqlstate_after_any_notices(
        notices in vec(vec(any::<u8>(), 0..30), 0..4),
        before in vec("[SVMDHFL][a-zA-Z ]{0,20}", 0..3),
        sqlstate in proptest::option::of("[0-9A-Z]{5}"),
        after in vec("[SVMDHFL][a-zA-Z ]{0,20}", 0..3),
    ) {
        let fields = before.into_iter().chain(sqlstate.iter().map(|code| format!("C{code}"))).chain(after);
        let content = fields.map(|field| format!("{field}\0")).collect::<String>() + "\0";
        let mut stream = Vec::new();
        for (kind, content) in notices.iter().map(|notice| (b'N', &notice[..])).chain([(b'E', content.as_bytes())]) {
            stream.push(kind);
            stream.extend(u32::try_from(content.len() + 4).expect("short").to_be_bytes());
            stream.extend(content);
        }
        prop_assert_eq!(AnswerReader::default().next(&mut &stream[..]), Some(Answer::Error(sqlstate)));
        prop_assert_eq!(AnswerReader::default().next(&mut &stream[..stream.len() - 1]), None, "not before its last byte");
        properties::postgres_answer(&stream);
    }

    #[test]
    fn any_answer_is_read_alike_however_it_is_cut(
        bytes in prop_oneof![vec(any::<u8>(), 0..40), vec(select(vec![b'R', b'E', b'N', b'v', 0, 4, 5, 8, b'C']), 0..60)],
    ) {
        properties::postgres_answer(&bytes);
    }

    #[test]
    fn an_input_of_the_fuzzer_is_a_conversation(input in vec(any::<u8>(), 0..200)) {
        let (_, segments) = properties::decode(&input);
        let bytes: usize = segments.iter().map(|(_, bytes)| bytes.len()).sum();
        prop_assert!(bytes + 3 * segments.len() <= input.len());
    }
}
