//! What a data set holds, for people: counts, sizes, unreadable and repeated images, and a sheet to look at.

use std::collections::BTreeMap;
use std::fmt;
use std::path::PathBuf;

use rayon::prelude::*;

use super::dataset::Dataset;
use super::decode::{ImageFacts, ValueKind, range_warning};
use super::error::{DataError, DataProblem};
use super::glance::is_grey;
use super::left_out::LeftOutByReason;
use super::pixels::{PixelValues, Pixels};
use super::split::Split;
use super::transform::Transform;
use crate::image::grid::{GridOptions, compose};
use crate::image::png::Image8;

/// Images that are stored alike.
#[derive(Clone, Debug, PartialEq)]
pub struct SeenValues {
    /// How many.
    pub images: usize,
    /// Smallest and largest value among them as stored; DICOM after rescale.
    pub range: [f64; 2],
    /// Black and white were given, by the files or by the options.
    pub windowed: bool,
}

/// The findings of a full pass over a data set: every image decoded.
#[derive(Clone, Debug)]
pub struct DatasetReport {
    /// Where the set was opened.
    pub root: PathBuf,
    /// Name of the layout.
    pub format: &'static str,
    /// Class names by index.
    pub classes: Vec<String>,
    /// Images per split (`None`: not split), then per class, unreadable ones included.
    pub counts: Vec<(Option<Split>, Vec<usize>)>,
    /// Number of images by (width, height), most frequent first.
    pub sizes: Vec<([usize; 2], usize)>,
    /// The values of images by how they are stored: kind and channels.
    pub values: BTreeMap<(ValueKind, usize), SeenValues>,
    /// True if all channels are equal in every image.
    pub grey: bool,
    /// Images that were turned as their files say.
    pub turned: usize,
    /// Images that cannot be decoded: sample id and reason.
    pub unreadable: Vec<(String, String)>,
    /// Groups of samples with equal pixels, by id.
    pub repeated: Vec<Vec<String>>,
    /// Groups among `repeated` that span two splits: test images that were trained on.
    pub leaked: usize,
    /// Disagreements between labels and images.
    pub problems: Vec<DataProblem>,
    /// Groups (patients) with images in more than one split.
    pub groups_on_both_sides: usize,
    /// The split that training measures on; `None` if nothing is held out.
    pub held_out: Option<Split>,
    /// Files that are not in the set, by reason.
    pub left_out: LeftOutByReason,
    /// What the reader decided, in words.
    pub notes: Vec<String>,
}

impl DatasetReport {
    /// Decodes every image of the set, on all threads.
    pub fn new(set: &Dataset) -> Self {
        let seen: Vec<Result<SeenImage, DataError>> = (0..set.len())
            .into_par_iter()
            .map(|index| {
                let decoded = set.decode(index)?;
                let pixels = &decoded.pixels;
                Ok(SeenImage {
                    size: [pixels.width, pixels.height],
                    grey: is_grey(pixels),
                    hash: hash(pixels),
                    facts: decoded.facts,
                })
            })
            .collect();

        let mut sizes: BTreeMap<[usize; 2], usize> = BTreeMap::new();
        let mut values: BTreeMap<(ValueKind, usize), SeenValues> = BTreeMap::new();
        let (mut grey, mut turned) = (true, 0);
        let mut unreadable = Vec::new();
        let mut by_pixels: BTreeMap<[u8; 32], Vec<usize>> = BTreeMap::new();
        for (index, image) in seen.into_iter().enumerate() {
            match image {
                Ok(image) => {
                    *sizes.entry(image.size).or_default() += 1;
                    let facts = &image.facts;
                    values
                        .entry((facts.kind, facts.channels))
                        .and_modify(|seen| {
                            seen.images += 1;
                            seen.range[0] = seen.range[0].min(facts.range[0]);
                            seen.range[1] = seen.range[1].max(facts.range[1]);
                            seen.windowed &= facts.windowed;
                        })
                        .or_insert(SeenValues {
                            images: 1,
                            range: facts.range,
                            windowed: facts.windowed,
                        });
                    grey &= image.grey;
                    turned += usize::from(facts.turned);
                    by_pixels
                        .entry(*image.hash.as_bytes())
                        .or_default()
                        .push(index);
                }
                Err(error) => {
                    let reason = match error {
                        DataError::Corrupt { reason, .. } => reason,
                        other => other.to_string(),
                    };
                    unreadable.push((set.samples()[index].id.clone(), reason));
                }
            }
        }
        let mut sizes: Vec<_> = sizes.into_iter().collect();
        sizes.sort_by_key(|&(size, count)| (std::cmp::Reverse(count), size));
        let mut groups: Vec<Vec<usize>> = by_pixels
            .into_values()
            .filter(|group| group.len() > 1)
            .collect();
        groups.sort();
        let split_of = |index: &usize| set.samples()[*index].split;
        let leaked = groups
            .iter()
            .filter(|group| group.iter().any(|i| split_of(i) != split_of(&group[0])))
            .count();
        let ids = |group: &Vec<usize>| group.iter().map(|&i| set.samples()[i].id.clone()).collect();

        let splits = match set.splits() {
            splits if splits.is_empty() => vec![None],
            splits => splits.into_iter().map(Some).collect(),
        };
        let counts = splits
            .into_iter()
            .map(|split| {
                let mut counts = vec![0; set.classes().len()];
                for sample in set.samples().iter().filter(|s| s.split == split) {
                    counts[sample.class] += 1;
                }
                (split, counts)
            })
            .collect();
        Self {
            root: set.root().to_owned(),
            format: set.format().name(),
            classes: set.classes().to_vec(),
            counts,
            sizes,
            grey: grey && !values.is_empty(),
            values,
            turned,
            unreadable,
            repeated: groups.iter().map(ids).collect(),
            leaked,
            problems: set.problems().to_vec(),
            groups_on_both_sides: set.groups_on_both_sides(),
            held_out: set.held_out_split(Split::Train),
            left_out: set.left_out().clone(),
            notes: set.notes().to_vec(),
        }
    }

    /// Images in the set, unreadable ones included.
    pub fn total(&self) -> usize {
        self.counts.iter().flat_map(|(_, counts)| counts).sum()
    }
}

/// What is kept of a decoded image.
struct SeenImage {
    /// Width and height.
    size: [usize; 2],
    grey: bool,
    hash: blake3::Hash,
    facts: ImageFacts,
}

fn hash(pixels: &Pixels) -> blake3::Hash {
    let mut hasher = blake3::Hasher::new();
    for n in [pixels.width, pixels.height, pixels.channels, pixels.bits()] {
        hasher.update(&(n as u64).to_le_bytes());
    }
    match &pixels.samples {
        PixelValues::U8(v) => hasher.update(v),
        PixelValues::U16(v) => hasher.update(bytemuck::cast_slice(v)),
    };
    hasher.finalize()
}

impl fmt::Display for DatasetReport {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(
            f,
            "{}: {} in {} ({})",
            self.root.display(),
            counted(self.total(), "image", "images"),
            counted(self.classes.len(), "class", "classes"),
            self.format
        )?;
        let name_width = self
            .classes
            .iter()
            .map(|c| c.chars().count())
            .max()
            .unwrap_or(0)
            .max(5);
        write!(f, "  {:name_width$}", "class")?;
        for (split, _) in &self.counts {
            write!(f, "  {:>8}", split.map_or("images", Split::name))?;
        }
        writeln!(f)?;
        for (class, name) in self.classes.iter().enumerate() {
            write!(f, "  {name:name_width$}")?;
            for (_, counts) in &self.counts {
                write!(f, "  {:>8}", counts[class])?;
            }
            writeln!(f)?;
        }
        write!(f, "  {:name_width$}", "all")?;
        for (_, counts) in &self.counts {
            write!(f, "  {:>8}", counts.iter().sum::<usize>())?;
        }
        writeln!(f)?;

        let shown: Vec<String> = self
            .sizes
            .iter()
            .take(5)
            .map(|([w, h], count)| format!("{w} x {h} ({count})"))
            .collect();
        write!(f, "  sizes: {}", shown.join(", "))?;
        if self.sizes.len() > 5 {
            let range = |side: usize| {
                let sides = self.sizes.iter().map(|(size, _)| size[side]);
                (sides.clone().min().unwrap_or(0), sides.max().unwrap_or(0))
            };
            let ((w0, w1), (h0, h1)) = (range(0), range(1));
            write!(
                f,
                " and {} more, from {w0} to {w1} wide and {h0} to {h1} high",
                self.sizes.len() - 5
            )?;
        }
        writeln!(f)?;
        self.write_values(f)?;
        match self.held_out {
            Some(split) => writeln!(
                f,
                "  held out: the {split} images, which are never trained on"
            )?,
            None => writeln!(f, "  held out: nothing, so that training measures nothing")?,
        }
        for note in &self.notes {
            writeln!(f, "  note: {note}")?;
        }
        let left_out = self.left_out.lines(&self.root);
        if !left_out.is_empty() {
            writeln!(f, "  left out:")?;
        }
        for line in left_out {
            writeln!(f, "    {line}")?;
        }
        listed(f, "unreadable", &self.unreadable, |(id, reason)| {
            format!("{id}: {reason}")
        })?;
        listed(f, "problems", &self.problems, DataProblem::to_string)?;
        listed(f, "repeated images", &self.repeated, |group| {
            group.join(" = ")
        })?;
        for (&(kind, _), seen) in self.values.iter().filter(|(_, seen)| !seen.windowed) {
            if let Some(warning) = range_warning(kind, seen.range) {
                writeln!(f, "  warning: {warning}")?;
            }
        }
        if self.leaked > 0 {
            writeln!(
                f,
                "  warning: {} in more than one split",
                counted(self.leaked, "image occurs", "images occur")
            )?;
        }
        if self.groups_on_both_sides > 0 {
            writeln!(
                f,
                "  warning: {} in more than one split; a model is then measured on patients that it knows",
                counted(
                    self.groups_on_both_sides,
                    "patient has images",
                    "patients have images"
                )
            )?;
        }
        Ok(())
    }
}

impl DatasetReport {
    /// Kinds of values with their ranges, colour and orientation.
    fn write_values(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let line = |(&(kind, channels), seen): (&(ValueKind, usize), &SeenValues)| {
            let colour = if channels == 1 { "grey" } else { "RGB" };
            let [low, high] = seen.range.map(short);
            let window = if seen.windowed { ", windowed" } else { "" };
            format!(
                "{kind} {colour} from {low} to {high}{window} ({})",
                seen.images
            )
        };
        let values: Vec<String> = self.values.iter().map(line).collect();
        writeln!(f, "  values: {}", values.join(", "))?;
        if self.grey {
            writeln!(
                f,
                "  colour: none; all images are grey, and training takes one channel"
            )?;
        }
        match self.turned {
            0 => {}
            1 => writeln!(f, "  turned: 1 image, as its file says (EXIF)")?,
            n => writeln!(f, "  turned: {n} images, as their files say (EXIF)")?,
        }
        Ok(())
    }
}

/// A number with the word that it counts.
fn counted(count: usize, one: &str, many: &str) -> String {
    format!("{count} {}", if count == 1 { one } else { many })
}

/// A value with at most four digits behind the point.
fn short(value: f64) -> String {
    let text = format!("{value:.4}");
    text.trim_end_matches('0').trim_end_matches('.').to_owned()
}

/// A heading with a count and the first entries; nothing where there are none.
fn listed<T>(
    f: &mut fmt::Formatter<'_>,
    heading: &str,
    items: &[T],
    text: impl Fn(&T) -> String,
) -> fmt::Result {
    const SHOWN: usize = 10;
    if items.is_empty() {
        return Ok(());
    }
    writeln!(f, "  {heading}: {}", items.len())?;
    for item in items.iter().take(SHOWN) {
        writeln!(f, "    {}", text(item))?;
    }
    if items.len() > SHOWN {
        writeln!(f, "    and {} more", items.len() - SHOWN)?;
    }
    Ok(())
}

/// A grid with one row of `per_class` images for each class, evenly spread over the class, at `size` (height, width)
/// and with the class names beside the rows. Unreadable images leave a blank.
///
/// # Errors
/// If `size` is not a usable image size.
pub fn contact_sheet(
    set: &Dataset,
    per_class: usize,
    size: [usize; 2],
) -> Result<Image8, DataError> {
    let transform = Transform::new(size, 3)?;
    let per_class = per_class.max(1);
    let mut tiles = Vec::with_capacity(per_class * set.classes().len());
    for class in 0..set.classes().len() {
        let members: Vec<usize> = (0..set.len())
            .filter(|&i| set.samples()[i].class == class)
            .collect();
        for column in 0..per_class {
            let blank = Image8::filled(size[1], size[0], 3, 255);
            // Fewer members than columns: each once, then blanks.
            let chosen = if members.len() <= per_class {
                members.get(column)
            } else {
                members.get(column * members.len() / per_class)
            };
            tiles.push(match chosen.map(|&index| set.pixels(index)) {
                Some(Ok(pixels)) => {
                    let [h, w] = size;
                    Image8::from_f32(&transform.apply(pixels), [h, w, 3])
                }
                _ => blank,
            });
        }
    }
    Ok(compose(
        &tiles,
        &GridOptions {
            row_labels: set.classes().to_vec(),
            ..GridOptions::new(per_class)
        },
    ))
}
