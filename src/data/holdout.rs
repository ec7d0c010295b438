//! A held-out part of a set that nobody split.

use std::collections::BTreeMap;

use super::dataset::Dataset;
use super::error::DataError;
use super::split::Split;

impl Dataset {
    /// The set with about `fraction` of the images of each class moved to the test split, the others to the train split.
    /// Which ones follows from their ids alone, so that the same set is always split alike. With `grouped`, images of
    /// one group (patient) stay together.
    ///
    /// # Errors
    /// If the set is split already, `fraction` is not between 0 and 1, an image has no group where groups are asked for,
    /// or a class would have no image on one side.
    pub fn hold_out(&self, fraction: f64, grouped: bool) -> Result<Dataset, DataError> {
        if !(fraction > 0.0 && fraction < 1.0) {
            return Err(DataError::Options(format!(
                "a held-out fraction of {fraction}: expected one between 0 and 1"
            )));
        }
        let splits = self.splits();
        if splits.len() > 1 {
            let names: Vec<&str> = splits.iter().map(|split| split.name()).collect();
            return Err(DataError::Options(format!(
                "`{}` is split into {} already: no other part of it can be held out",
                self.root().display(),
                names.join(" and ")
            )));
        }
        let mut set = self.clone();
        let held = self.held_out(fraction, grouped)?;
        for (sample, held) in set.samples.iter_mut().zip(held) {
            sample.split = Some(if held { Split::Test } else { Split::Train });
        }
        set.samples.sort_by_key(|sample| sample.split);
        for (class, name) in self.classes().iter().enumerate() {
            for split in [Split::Train, Split::Test] {
                let occurs =
                    |s: &&super::dataset::Sample| s.class == class && s.split == Some(split);
                if !set.samples.iter().any(|s| occurs(&s)) {
                    return Err(DataError::Options(format!(
                        "with a held-out fraction of {fraction} class `{name}` has no image in the {split} part"
                    )));
                }
            }
        }
        Ok(set)
    }

    /// For each sample whether it is held out.
    fn held_out(&self, fraction: f64, grouped: bool) -> Result<Vec<bool>, DataError> {
        // Groups of samples that stay together, in an order that their names decide.
        let mut groups: BTreeMap<[u8; 32], Vec<usize>> = BTreeMap::new();
        for (index, sample) in self.samples().iter().enumerate() {
            let name = match (&sample.group, grouped) {
                (Some(group), true) => group,
                (None, true) => {
                    return Err(DataError::Options(format!(
                        "`{}` does not say whose image `{}` is: no group to keep together",
                        self.root().display(),
                        sample.id
                    )));
                }
                (_, false) => &sample.id,
            };
            let key = *blake3::hash(name.as_bytes()).as_bytes();
            groups.entry(key).or_default().push(index);
        }
        let mut missing: Vec<f64> = self.counts().iter().map(|&n| n as f64 * fraction).collect();
        let mut held = vec![false; self.len()];
        for members in groups.values() {
            let mut counts = vec![0.0; self.classes().len()];
            for &index in members {
                counts[self.samples()[index].class] += 1.0;
            }
            // A group is taken as long as at least half of what it adds is still missing.
            let wanted =
                |class: usize| counts[class] == 0.0 || missing[class] >= counts[class] / 2.0;
            if (0..counts.len()).all(wanted) {
                for (missing, count) in missing.iter_mut().zip(&counts) {
                    *missing -= count;
                }
                members.iter().for_each(|&index| held[index] = true);
            }
        }
        Ok(held)
    }
}

#[cfg(test)]
mod tests {
    use std::path::{Path, PathBuf};

    use super::*;
    use crate::data::dataset::{DataFormat, PixelSource, Sample};

    fn set(images: usize, per_patient: usize) -> Dataset {
        let sample = |index: usize| Sample {
            id: format!("{index}"),
            source: PixelSource::file(PathBuf::from(format!("{index}.png"))),
            class: index / per_patient % 2,
            split: None,
            group: Some(format!("patient {}", index / per_patient)),
        };
        Dataset {
            classes: vec!["a".to_owned(), "b".to_owned()],
            samples: (0..images).map(sample).collect(),
            ..Dataset::empty(Path::new("set"), DataFormat::Labels)
        }
    }

    #[test]
    fn a_fraction_of_each_class_is_held_out() {
        let split = set(1000, 1).hold_out(0.2, false).unwrap();
        assert_eq!(split.select(Split::Test).unwrap().counts(), [100, 100]);
        assert_eq!(split.select(Split::Train).unwrap().counts(), [400, 400]);
    }

    #[test]
    fn patients_stay_on_one_side() {
        let split = set(1000, 5).hold_out(0.2, true).unwrap();
        assert_eq!(split.groups_on_both_sides(), 0);
        assert_eq!(split.select(Split::Test).unwrap().counts(), [100, 100]);
        assert!(
            set(1000, 5)
                .hold_out(0.2, false)
                .unwrap()
                .groups_on_both_sides()
                > 0
        );
    }

    #[test]
    fn the_same_images_are_held_out_again() {
        let ids = |set: &Dataset| -> Vec<String> {
            let test = set.select(Split::Test).unwrap();
            let mut ids: Vec<String> = test.samples().iter().map(|s| s.id.clone()).collect();
            ids.sort();
            ids
        };
        let first = set(100, 1);
        let mut reversed = first.clone();
        reversed.samples.reverse();
        let [first, reversed] = [first, reversed].map(|set| set.hold_out(0.3, false).unwrap());
        assert_eq!(ids(&first), ids(&reversed));
    }

    #[test]
    fn what_cannot_be_held_out_is_said() {
        let set = set(10, 1);
        assert!(set.hold_out(0.0, false).is_err());
        assert!(
            set.hold_out(0.01, false)
                .unwrap_err()
                .to_string()
                .contains("class `a`")
        );
        let split = set.hold_out(0.4, false).unwrap();
        assert!(
            split
                .hold_out(0.4, false)
                .unwrap_err()
                .to_string()
                .contains("already")
        );
        let mut nameless = set;
        nameless.samples[3].group = None;
        assert!(
            nameless
                .hold_out(0.4, true)
                .unwrap_err()
                .to_string()
                .contains("whose image `3` is")
        );
    }
}
