//! Which image serves for what: the default file, a user's file, environment variables and flags, and which of them wins.

use std::collections::BTreeMap;
use std::fmt;
use std::path::Path;

use indexmap::IndexMap;
use schemars::JsonSchema;
use serde::Deserialize;
use serde_saphyr::Spanned;

use super::yaml::{LoadError, Place, one, read};
use model::image::{IMAGE_VARIABLE, ImageReference, ImageUse, ReferenceError};
use model::text::{Text, Texts};

/// The default file; it is part of the binary, so that the binary works anywhere.
const DEFAULTS: &str = include_str!("../../../kind/images/images.yaml");
/// What the default file is called in messages.
const DEFAULTS_NAME: &str = "kind/images/images.yaml";

/// Container images for `--environment container`: the form of `kind/images/images.yaml`, and of `--images FILE`, which holds only what it
/// replaces.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct ImagesFile {
    /// The sets whose images are tried, in this order, where no set is chosen. Absent: all sets of this file, in its order.
    #[serde(default)]
    default: Option<Vec<Text>>,
    /// Named sets: for each use (`postgres-17`, `redis`, `haproxy`, `clients`) a reference, or a list of references in the order of trying.
    #[schemars(with = "BTreeMap<String, BTreeMap<String, Texts>>")]
    sets: IndexMap<String, IndexMap<String, Spanned<Texts>>>,
}

/// A file of images, read.
#[derive(Debug, Clone)]
pub struct ImageFile {
    /// Names of the sets to try, in this order.
    default: Vec<String>,
    sets: IndexMap<String, BTreeMap<ImageUse, Vec<Candidate>>>,
}

impl ImageFile {
    /// Reads a file.
    ///
    /// # Errors
    /// [`LoadError`] where it can't be read or used.
    pub fn load(file: &Path) -> Result<Self, LoadError> {
        Self::parse(file, &read(file)?)
    }

    /// The file that the harness brings.
    ///
    /// # Errors
    /// None for a binary whose tests passed.
    pub fn built_in() -> Result<Self, LoadError> {
        Self::parse(Path::new(DEFAULTS_NAME), DEFAULTS)
    }

    fn parse(file: &Path, text: &str) -> Result<Self, LoadError> {
        let parsed: ImagesFile = one(file, text)?;
        let mut sets = IndexMap::new();
        for (set, images) in &parsed.sets {
            let mut uses = BTreeMap::new();
            for (image_use, references) in images {
                let at = |text: Option<&Text>| {
                    // A text that is no list's has the place of the value.
                    let place = text.map(Text::place).filter(|(line, _)| *line > 0);
                    Place::at(file, place.unwrap_or((references.referenced.line(), references.referenced.column())))
                };
                let used: ImageUse = image_use.parse().map_err(|error| LoadError::new(at(None), format!("{error}")))?;
                let candidates: Result<Vec<Candidate>, LoadError> = references
                    .value
                    .0
                    .iter()
                    .map(|text| {
                        let reference =
                            text.raw().parse().map_err(|error: ReferenceError| LoadError::new(at(Some(text)), error.to_string()))?;
                        Ok(Candidate { reference, source: ImageSource::Set { set: set.clone(), place: at(Some(text)) } })
                    })
                    .collect();
                let candidates = candidates?;
                if candidates.is_empty() {
                    return Err(LoadError::new(at(None), format!("no image for {used}: leave the line out, or name one")));
                }
                uses.insert(used, candidates);
            }
            sets.insert(set.clone(), uses);
        }
        let default = match &parsed.default {
            None => sets.keys().cloned().collect(),
            Some(names) => {
                if let Some(unknown) = names.iter().find(|name| !sets.contains_key(&name.raw())) {
                    let message = format!("there is no set `{}` in this file: it has {}", unknown.raw(), listed(sets.keys()));
                    return Err(LoadError::new(Place::at(file, unknown.place()), message));
                }
                names.iter().map(Text::raw).collect()
            }
        };
        Ok(Self { default, sets })
    }

    /// The candidates of the chosen set, or of those that are tried where none is chosen; empty if there are none.
    fn candidates(&self, image_use: ImageUse, set: Option<&str>) -> Vec<Candidate> {
        let names: Vec<&str> = set.map_or_else(|| self.default.iter().map(String::as_str).collect(), |set| vec![set]);
        names.into_iter().filter_map(|name| self.sets.get(name)?.get(&image_use)).flatten().cloned().collect()
    }

    fn uses(&self) -> impl Iterator<Item = ImageUse> {
        self.sets.values().flat_map(BTreeMap::keys).copied()
    }
}

/// An image that may serve.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Candidate {
    /// The name by which the engine finds the image.
    pub reference: ImageReference,
    /// Where the image was named, for messages.
    pub source: ImageSource,
}

impl fmt::Display for Candidate {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} ({})", self.reference, self.source)
    }
}

/// Who named an image.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ImageSource {
    /// The command line flag `--image`.
    Flag,
    /// The environment variable of this name.
    Variable(String),
    /// A set of a file.
    Set {
        /// The name of the set in its file.
        set: String,
        /// The place of the image's name in the file.
        place: Place,
    },
}

impl fmt::Display for ImageSource {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Flag => f.write_str("--image"),
            Self::Variable(name) => f.write_str(name),
            Self::Set { set, place } => write!(f, "{set}, {place}"),
        }
    }
}

/// What a user says of images.
#[derive(Debug, Clone, Default)]
pub struct ImageSettings {
    /// `--image USE=REFERENCE`, in the order of the command line. Several for one use are tried in order.
    pub flags: Vec<(ImageUse, ImageReference)>,
    /// Environment variables, see [`from_variables`].
    pub variables: Vec<(ImageUse, ImageReference)>,
    /// The file that `--images` names; `None`: only the default file counts.
    pub file: Option<ImageFile>,
    /// The name of the chosen set.
    pub set: Option<String>,
}

/// Settings of images that can't be followed.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ImageError {
    /// `--image-set` names a set that no file has.
    #[error("there is no set of images `{set}`: there are {known}")]
    UnknownSet {
        /// The name as it was given.
        set: String,
        /// The sets that there are, separated by commas.
        known: String,
    },
    /// An environment variable that starts like ours and names no use.
    #[error("the environment variable {0} is for no image: expected {IMAGE_VARIABLE}POSTGRES_17, _REDIS, _HAPROXY or _CLIENTS")]
    UnknownVariable(String),
    /// An environment variable with nonsense in it.
    #[error("the environment variable {variable}: {source}")]
    BadVariable {
        /// The variable's name, such as `MTLS_CONFORMANCE_IMAGE_REDIS`.
        variable: String,
        /// What is wrong with the variable's value.
        source: ReferenceError,
    },
    /// The default file is broken: a defect of the harness.
    #[error("the built-in images are broken, which is a defect of the harness: {0}")]
    BuiltIn(#[from] LoadError),
}

/// The images that environment variables name. An empty variable is none, since a CI job can't unset one.
///
/// # Errors
/// [`ImageError`] where a variable that starts like ours can't be followed.
pub fn from_variables(variables: impl IntoIterator<Item = (String, String)>) -> Result<Vec<(ImageUse, ImageReference)>, ImageError> {
    let ours = variables.into_iter().filter(|(name, value)| name.starts_with(IMAGE_VARIABLE) && !value.is_empty());
    ours.map(|(variable, value)| {
        let image_use = ImageUse::of_variable(&variable).ok_or_else(|| ImageError::UnknownVariable(variable.clone()))?;
        let reference = value.parse().map_err(|source| ImageError::BadVariable { variable, source })?;
        Ok((image_use, reference))
    })
    .collect()
}

/// The images of a run: for every use the candidates.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Images {
    candidates: BTreeMap<ImageUse, Vec<Candidate>>,
}

/// Nobody names an image for a use.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error(
    "no image is named for {image_use}, only for {known}: give --image {image_use}=REFERENCE, {variable}=REFERENCE, or a file with --images"
)]
pub struct NoImage {
    /// The use that nobody names an image for.
    image_use: ImageUse,
    /// The environment variable that would name one.
    variable: String,
    /// What images are named for.
    known: String,
}

impl Images {
    /// For every use, the candidates of who comes first: flags, environment variables, the user's file, the default file. A chosen set
    /// narrows the files to it, for the uses that it has an image for.
    ///
    /// # Errors
    /// [`ImageError::UnknownSet`].
    pub fn resolve(settings: &ImageSettings) -> Result<Self, ImageError> {
        let built_in = ImageFile::built_in()?;
        let files: Vec<&ImageFile> = settings.file.iter().chain([&built_in]).collect();
        if let Some(set) = &settings.set
            && !files.iter().any(|file| file.sets.contains_key(set))
        {
            let known: std::collections::BTreeSet<&String> = files.iter().flat_map(|file| file.sets.keys()).collect();
            return Err(ImageError::UnknownSet { set: set.clone(), known: listed(known) });
        }
        let uses = files.iter().flat_map(|file| file.uses());
        let uses = uses.chain(settings.flags.iter().chain(&settings.variables).map(|(image_use, _)| *image_use));
        let candidates = uses.map(|image_use| (image_use, resolve_one(settings, &files, image_use)));
        Ok(Self { candidates: candidates.filter(|(_, candidates)| !candidates.is_empty()).collect() })
    }

    /// The images that may serve, best first, at least one. The first that the engine has is to be taken; if it has none, they are to be
    /// pulled in this order.
    ///
    /// # Errors
    /// [`NoImage`].
    pub fn candidates(&self, image_use: ImageUse) -> Result<&[Candidate], NoImage> {
        self.candidates.get(&image_use).map(Vec::as_slice).ok_or_else(|| NoImage {
            image_use,
            variable: image_use.variable(),
            known: listed(self.candidates.keys()),
        })
    }

    /// Every use that has an image, with its candidates.
    pub fn iter(&self) -> impl Iterator<Item = (ImageUse, &[Candidate])> {
        self.candidates.iter().map(|(image_use, candidates)| (*image_use, candidates.as_slice()))
    }
}

fn resolve_one(settings: &ImageSettings, files: &[&ImageFile], image_use: ImageUse) -> Vec<Candidate> {
    let named = |images: &[(ImageUse, ImageReference)], source: &ImageSource| -> Vec<Candidate> {
        let ours = images.iter().filter(|(named, _)| *named == image_use);
        ours.map(|(_, reference)| Candidate { reference: reference.clone(), source: source.clone() }).collect()
    };
    let of_files = |set: Option<&str>| files.iter().map(|file| file.candidates(image_use, set)).find(|candidates| !candidates.is_empty());
    let ways: [&dyn Fn() -> Option<Vec<Candidate>>; 4] = [
        &|| Some(named(&settings.flags, &ImageSource::Flag)),
        &|| Some(named(&settings.variables, &ImageSource::Variable(image_use.variable()))),
        &|| of_files(Some(settings.set.as_deref()?)),
        &|| of_files(None),
    ];
    ways.iter().find_map(|way| way().filter(|candidates| !candidates.is_empty())).unwrap_or_default()
}

fn listed<T: fmt::Display>(names: impl IntoIterator<Item = T>) -> String {
    names.into_iter().map(|name| name.to_string()).collect::<Vec<_>>().join(", ")
}

#[cfg(test)]
mod tests;
