//! Values that flags take by name.

use clap::builder::{PossibleValue, PossibleValuesParser, TypedValueParser};

use crate::data::{Format, Split, UnknownPolicy};

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

pub(super) fn format() -> impl TypedValueParser<Value = Format> {
    one_of(&[
        ("auto", "Decided by what is there", Format::Auto),
        (
            "folder",
            "`class/*.png|jpg|jpeg|tif|tiff|bmp`, possibly below `train/`, `val/`, `test/`; images directly in the \
             folder form one class",
            Format::Folder,
        ),
        (
            "medmnist",
            "`{train,val,test}_{images,labels}` in one `.npz` file",
            Format::Medmnist,
        ),
        (
            "airogs",
            "`train_labels.csv` (`challenge_id,class`) and images named after the id",
            Format::Airogs,
        ),
        (
            "chexpert",
            "`train.csv` (and `valid.csv`) over `CheXpert-v1.0/train/patientN/studyN/viewN_frontal.jpg`",
            Format::Chexpert,
        ),
        ("crcdx", "Class folders `MSIH` and `nonMSIH`", Format::Crcdx),
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
