//! Which image wins, and what is refused.

use super::*;
use os::toolchain::POSTGRES_MAJORS;

const FILE: &str = "mine.yaml";

fn file(text: &str) -> Result<ImageFile, LoadError> {
    ImageFile::parse(Path::new(FILE), text)
}

/// A flag's or variable's image.
fn named(image_use: &str, reference: &str) -> (ImageUse, ImageReference) {
    (image_use.parse().expect("a use"), reference.parse().expect("a reference"))
}

/// The candidates of one use, as `REFERENCE (SOURCE)`; those of the default file as `NAME (SET)` with the end of their name.
fn candidates(settings: &ImageSettings, image_use: ImageUse) -> Vec<String> {
    let images = Images::resolve(settings).expect("resolves");
    let candidates = images.candidates(image_use).expect("there are some");
    candidates
        .iter()
        .map(|candidate| match &candidate.source {
            ImageSource::Set { set, place } if place.file == Path::new(DEFAULTS_NAME) => {
                let name = candidate.reference.name().rsplit('/').next().unwrap_or_default();
                format!("{name} ({set})")
            }
            _ => candidate.to_string(),
        })
        .collect()
}

const SEVENTEEN: ImageUse = ImageUse::Postgres(17);

#[test]
fn the_default_file_has_an_image_for_every_use() {
    let images = Images::resolve(&ImageSettings::default()).expect("resolves");
    let servers = POSTGRES_MAJORS.into_iter().map(ImageUse::Postgres);
    for image_use in servers.chain([ImageUse::Redis, ImageUse::Haproxy, ImageUse::Clients]) {
        let candidates = images.candidates(image_use).unwrap_or_else(|error| panic!("{error}"));
        for Candidate { reference, .. } in candidates {
            assert!(reference.tag().is_some(), "a person can't read a digest: {reference}");
        }
    }
}

#[test]
fn the_images_that_the_script_builds_are_the_set_for_places_without_a_registry() {
    let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../kind/images/build.sh");
    let output = std::process::Command::new(script).arg("--list").output().expect("the script runs");
    assert!(output.status.success());
    let mut built: Vec<String> = String::from_utf8(output.stdout).expect("is text").lines().map(str::to_owned).collect();
    let defaults = ImageFile::built_in().expect("is valid");
    let mut named: Vec<String> = defaults.sets["offline"].values().flatten().map(|candidate| candidate.reference.to_string()).collect();
    built.sort();
    named.sort();
    assert_eq!(named, built);
}

#[test]
fn where_nothing_is_said_the_official_image_comes_first_and_ours_last() {
    assert_eq!(candidates(&ImageSettings::default(), SEVENTEEN), ["postgres (official)", "postgres (offline)"]);
}

#[test]
fn a_flag_beats_a_variable_which_beats_the_file_which_beats_the_default() {
    let mine = file("sets: {mine: {postgres-17: of-file:1}}").expect("is valid");
    let mut settings = ImageSettings {
        flags: vec![named("postgres-17", "of-flag:1"), named("redis", "other:1"), named("postgres-17", "of-flag:2")],
        variables: vec![named("postgres-17", "of-variable:1")],
        file: Some(mine),
        set: None,
    };
    assert_eq!(candidates(&settings, SEVENTEEN), ["of-flag:1 (--image)", "of-flag:2 (--image)"]);
    settings.flags.clear();
    assert_eq!(candidates(&settings, SEVENTEEN), ["of-variable:1 (MTLS_CONFORMANCE_IMAGE_POSTGRES_17)"]);
    settings.variables.clear();
    assert_eq!(candidates(&settings, SEVENTEEN), ["of-file:1 (mine, mine.yaml:1:28)"]);
    // What the file doesn't name stays.
    assert_eq!(candidates(&settings, ImageUse::Haproxy), ["haproxy (official)", "haproxy (offline)", "haproxy (offline)"]);
}

#[test]
fn a_chosen_set_is_tried_alone_where_it_has_an_image_and_not_at_all_elsewhere() {
    let mut settings = ImageSettings { set: Some("cnpg".to_owned()), ..ImageSettings::default() };
    assert_eq!(candidates(&settings, SEVENTEEN), ["postgresql (cnpg)"]);
    assert_eq!(candidates(&settings, ImageUse::Clients), ["clients (offline)"; 2]);
    // An image that is named for one use still wins.
    settings.flags.push(named("postgres-17", "of-flag:1"));
    assert_eq!(candidates(&settings, SEVENTEEN), ["of-flag:1 (--image)"]);
}

#[test]
fn a_users_file_adds_sets_and_replaces_images_of_ours() {
    let text = "default: [near]\nsets:\n  far: {postgres-17: far:1}\n  near:\n    postgres-17: [near:1, near:2]\n  cnpg:\n    postgres-17: my-cnpg:1\n";
    let mut settings = ImageSettings { file: Some(file(text).expect("is valid")), ..ImageSettings::default() };
    assert_eq!(candidates(&settings, SEVENTEEN), ["near:1 (near, mine.yaml:5:19)", "near:2 (near, mine.yaml:5:27)"]);
    settings.set = Some("far".to_owned());
    assert_eq!(candidates(&settings, SEVENTEEN), ["far:1 (far, mine.yaml:3:22)"]);
    settings.set = Some("cnpg".to_owned());
    assert_eq!(candidates(&settings, SEVENTEEN), ["my-cnpg:1 (cnpg, mine.yaml:7:18)"]);
    assert_eq!(candidates(&settings, ImageUse::Postgres(18)), ["postgresql (cnpg)"]);
    // Without `default`, all of the file's sets are tried in its order.
    settings = ImageSettings { file: Some(file(&text.replace("default: [near]\n", "")).expect("is valid")), ..ImageSettings::default() };
    let names: Vec<String> = candidates(&settings, SEVENTEEN).iter().map(|it| it.split(':').next().expect("a name").to_owned()).collect();
    assert_eq!(names, ["far", "near", "near", "my-cnpg"]);
}

#[test]
fn a_set_that_does_not_exist_is_refused_with_those_that_do() {
    let settings = ImageSettings { set: Some("cpng".to_owned()), ..ImageSettings::default() };
    let error = Images::resolve(&settings).expect_err("refused").to_string();
    assert_eq!(error, "there is no set of images `cpng`: there are cnpg, official, offline");
}

#[test]
fn a_version_that_nobody_names_an_image_for_can_be_named() {
    let mut settings = ImageSettings::default();
    let error = Images::resolve(&settings).expect("resolves").candidates(ImageUse::Postgres(14)).expect_err("none").to_string();
    assert_eq!(
        error,
        "no image is named for postgres-14, only for postgres-15, postgres-16, postgres-17, postgres-18, redis, haproxy, clients: \
         give --image postgres-14=REFERENCE, MTLS_CONFORMANCE_IMAGE_POSTGRES_14=REFERENCE, or a file with --images"
    );
    settings.flags.push(named("postgres-14", "old:14"));
    assert_eq!(candidates(&settings, ImageUse::Postgres(14)), ["old:14 (--image)"]);
}

#[test]
fn variables_name_images_unless_they_are_empty() {
    let variables = |pairs: &[(&str, &str)]| {
        from_variables(pairs.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned()))).map_err(|error| error.to_string())
    };
    assert_eq!(
        variables(&[
            ("PATH", "/bin"),
            ("MTLS_CONFORMANCE_IMAGES", "no variable of one image"),
            ("MTLS_CONFORMANCE_IMAGE_POSTGRES_17", "mine:1"),
            ("MTLS_CONFORMANCE_IMAGE_REDIS", "")
        ]),
        Ok(vec![named("postgres-17", "mine:1")])
    );
    assert_eq!(
        variables(&[("MTLS_CONFORMANCE_IMAGE_POSTGRESQL_17", "mine:1")]),
        Err("the environment variable MTLS_CONFORMANCE_IMAGE_POSTGRESQL_17 is for no image: \
             expected MTLS_CONFORMANCE_IMAGE_POSTGRES_17, _REDIS, _HAPROXY or _CLIENTS"
            .to_owned())
    );
    let error = variables(&[("MTLS_CONFORMANCE_IMAGE_REDIS", "Redis:8")]).expect_err("refused");
    assert!(error.starts_with("the environment variable MTLS_CONFORMANCE_IMAGE_REDIS: `Redis:8` is no image's name"), "{error}");
}

#[test]
fn a_file_that_cannot_be_used_is_refused_with_the_place() {
    for (text, expected) in [
        ("sets: {mine: {postgres: a:1}}", "mine.yaml:1:25: `postgres` is nothing that an image is for: expected postgres-MAJOR such as"),
        ("sets:\n  mine:\n    redis: [a:1, B:1]", "mine.yaml:3:18: `B:1` is no image's name: `B` has capital letters"),
        ("sets:\n  mine:\n    redis: B:1", "mine.yaml:3:12: `B:1` is no image's name"),
        ("sets: {mine: {redis: []}}", "mine.yaml:1:22: no image for redis: leave the line out, or name one"),
        ("default: [main]\nsets: {mine: {redis: a:1}}", "mine.yaml:1:11: there is no set `main` in this file: it has mine"),
        ("images: {}\nsets: {}", "mine.yaml:1:1: unknown field `images`, expected one of default, sets"),
        ("default: []", "missing field `sets`"),
    ] {
        let error = file(text).expect_err(text).to_string();
        assert!(error.contains(expected), "{error}");
    }
}
