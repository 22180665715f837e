//! The container images that a command line, the environment and a file name.

use super::args::ImageArgs;
use super::error::CliError;
use load::images::{ImageFile, ImageSettings, Images, from_variables};
use os::shell::in_shell;

/// For every use the images that may serve.
pub(super) fn images(args: &ImageArgs) -> Result<Images, CliError> {
    // A name or value that is no UTF-8 text names no image.
    let variables = std::env::vars_os().filter_map(|(name, value)| Some((name.into_string().ok()?, value.into_string().ok()?)));
    let settings = ImageSettings {
        flags: args.image.iter().map(|named| (named.image_use, named.reference.clone())).collect(),
        variables: from_variables(variables)?,
        file: args.images.as_deref().map(ImageFile::load).transpose()?,
        set: args.image_set.clone(),
    };
    Ok(Images::resolve(&settings)?)
}

/// The flags that say the same again, for the command that repeats a case.
pub(super) fn options(args: &ImageArgs) -> Vec<String> {
    let images = args.image.iter().map(|named| format!("--image {}", in_shell(&named.to_string())));
    let file = args.images.iter().map(|file| format!("--images {}", in_shell(&file.display().to_string())));
    let set = args.image_set.iter().map(|set| format!("--image-set {}", in_shell(set)));
    images.chain(file).chain(set).collect()
}

#[cfg(test)]
mod tests {
    use std::path::PathBuf;

    use super::*;

    #[test]
    fn a_repeated_command_names_the_same_images() {
        let args = ImageArgs {
            image: vec!["redis=mine:1".parse().expect("is valid"), "postgres-17=mine:2".parse().expect("is valid")],
            images: Some(PathBuf::from("my images.yaml")),
            image_set: Some("cnpg".to_owned()),
        };
        assert_eq!(options(&args), ["--image redis=mine:1", "--image postgres-17=mine:2", "--images 'my images.yaml'", "--image-set cnpg"]);
    }

    #[test]
    fn a_file_that_is_not_there_is_a_usage_error() {
        let args = ImageArgs { images: Some(PathBuf::from("no-such-file.yaml")), ..ImageArgs::default() };
        let error = images(&args).expect_err("refused");
        assert_eq!(error.exit(), crate::exit::Exit::Usage);
        assert!(error.text().starts_with("error: no-such-file.yaml: can't be read: "), "{}", error.text());
    }
}
