//! Values that flags take by name.

use clap::builder::{PossibleValue, PossibleValuesParser, TypedValueParser};

use crate::data::{DataFormat, Split, UnknownPolicy};

/// A parser of one of several values: name, help (empty for none) and value.
fn one_of<T: Copy + Send + Sync + 'static>(
    values: &'static [(&'static str, &'static str, T)],
) -> impl TypedValueParser<Value = T> {
    let possible = values.iter().map(|(name, help, _)| match *help {
        "" => PossibleValue::new(*name),
        help => PossibleValue::new(*name).help(help),
    });
    PossibleValuesParser::new(possible).map(|text| {
        let found = values.iter().find(|(name, ..)| *name == text);
        found.expect("clap has checked the name").2
    })
}

pub(super) fn format() -> impl TypedValueParser<Value = DataFormat> {
    one_of(&[
        ("auto", "Decided by what is there", DataFormat::Auto),
        (
            "folder",
            "A folder per class, possibly below `train/`, `val/`, `test/`; images directly in the folder form one class",
            DataFormat::Folder,
        ),
        (
            "labels",
            "Images in any folders, and a table that names the file and the label of each",
            DataFormat::Labels,
        ),
        (
            "medmnist",
            "Arrays of images and labels in one `.npz` file, such as `train_images` and `train_labels`",
            DataFormat::Medmnist,
        ),
        (
            "airogs",
            "`train_labels.csv` (`challenge_id,class`) and images named after the id",
            DataFormat::Airogs,
        ),
        (
            "chexpert",
            "`train.csv` (and `valid.csv`) over `CheXpert-v1.0/train/patientN/studyN/viewN_frontal.jpg`",
            DataFormat::Chexpert,
        ),
        (
            "crcdx",
            "Class folders `MSIH` and `nonMSIH`",
            DataFormat::Crcdx,
        ),
    ])
}

pub(super) fn unknown_policy() -> impl TypedValueParser<Value = UnknownPolicy> {
    one_of(&[
        (
            "negative",
            "As in the Medfusion paper",
            UnknownPolicy::Negative,
        ),
        ("positive", "", UnknownPolicy::Positive),
        ("skip", "The image is left out", UnknownPolicy::Skip),
    ])
}

pub(super) fn split() -> impl TypedValueParser<Value = Split> {
    one_of(&[
        ("train", "", Split::Train),
        ("val", "", Split::Val),
        ("test", "", Split::Test),
    ])
}
