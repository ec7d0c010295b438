//! Batches of transformed images, decoded ahead on threads, resumable to the sample.
//!
//! The loader visits one endless sequence: epoch 0's order, then epoch 1's, and so on. A batch may span two epochs, so
//! every sample is used, none is dropped, and a set smaller than a batch repeats within it (with a warning). What a
//! batch holds depends only on the options and the position, never on threads or on what was loaded before.

use std::collections::{BTreeMap, VecDeque};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, OnceLock, PoisonError};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use serde::{Deserialize, Serialize};

use super::dataset::{Dataset, PixelSource};
use super::error::DataError;
use super::order::{Entry, epoch_order};
use super::pixels::Pixels;
use super::transform::{Augment, Transform};
use crate::tensor::philox::{RandomStream, stream_key};

/// What to do with an image that cannot be decoded.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum OnCorrupt {
    /// Go on without it; it is named once in the log and counted.
    #[default]
    Skip,
    /// Stop.
    Fail,
}

/// Where in the endless sequence a loader stands: the next visit it has not yet handed out.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct Position {
    /// The epoch, from 0.
    pub epoch: u64,
    /// Visits of the epoch that are done, below the number of samples.
    pub offset: u64,
}

/// What a loader hands out.
#[derive(Clone, Debug)]
pub struct LoaderOptions {
    /// Images per batch.
    pub batch: usize,
    /// Size and channels of the images.
    pub transform: Transform,
    /// Random orientations; the default draws none.
    pub augment: Augment,
    /// Visit the samples of each epoch in random order.
    pub shuffle: bool,
    /// Equal shares for all classes, see [`epoch_order`].
    pub balanced: bool,
    /// Endless; otherwise one epoch, whose last batch may be short.
    pub repeat: bool,
    /// Seed of order and augmentation.
    pub seed: u64,
    /// Decoding threads, at least 1.
    pub threads: usize,
    /// Memory for prepared images; what does not fit is decoded again each time.
    pub cache_bytes: usize,
    /// What to do with an image that cannot be decoded.
    pub on_corrupt: OnCorrupt,
}

impl LoaderOptions {
    /// Shuffled and endless, as for training: two threads, a cache of 1 GiB, no augmentation.
    pub fn training(batch: usize, transform: Transform, seed: u64) -> Self {
        Self {
            batch,
            transform,
            augment: Augment::default(),
            shuffle: true,
            balanced: false,
            repeat: true,
            seed,
            threads: 2,
            cache_bytes: 1 << 30,
            on_corrupt: OnCorrupt::Skip,
        }
    }

    /// One pass in the order of the data set, without a cache.
    pub fn one_pass(batch: usize, transform: Transform) -> Self {
        Self {
            shuffle: false,
            repeat: false,
            cache_bytes: 0,
            ..Self::training(batch, transform, 0)
        }
    }
}

/// A batch of `B` images.
#[derive(Clone, Debug, PartialEq)]
pub struct Batch {
    /// `[B, H, W, C]` in [-1, 1].
    pub images: Vec<f32>,
    /// Class of each image.
    pub labels: Vec<i64>,
    /// Index of each image in the data set.
    pub indices: Vec<usize>,
    /// Where the sequence goes on after this batch: save it with the step that used the batch.
    pub next: Position,
}

impl Batch {
    /// Number of images.
    pub fn len(&self) -> usize {
        self.labels.len()
    }

    /// True if there is no image; a loader never returns such a batch.
    pub fn is_empty(&self) -> bool {
        self.labels.is_empty()
    }
}

/// An iterator of batches with decoding threads behind it; dropping it ends them.
pub struct Loader {
    shared: Arc<Prefetch>,
    threads: Vec<JoinHandle<()>>,
    position: u64,
    waited: Duration,
    failed: bool,
}

struct Prefetch {
    dataset: Arc<Dataset>,
    options: LoaderOptions,
    classes: Vec<usize>,
    depth: usize,
    queue: Mutex<Queue>,
    /// A result arrived.
    ready: Condvar,
    /// Room became free, or the end was asked for.
    room: Condvar,
    cache: Vec<OnceLock<Arc<Pixels>>>,
    cached_bytes: AtomicUsize,
    skipped: Mutex<BTreeMap<usize, String>>,
}

/// Visits between what was handed out and what is being decoded.
struct Queue {
    /// Sequence number of the front slot.
    front: u64,
    /// Sequence number of the next visit to decode.
    claim: u64,
    /// Results in sequence order; `None` while decoding.
    slots: VecDeque<Option<Result<LoadedImage, DataError>>>,
    orders: BTreeMap<u64, Arc<Vec<Entry>>>,
    stop: bool,
}

struct LoadedImage {
    values: Vec<f32>,
    sample: usize,
}

impl Loader {
    /// Starts the threads; the first batch begins at `start`.
    ///
    /// # Errors
    /// If the set or the batch is empty, an image size does not fit the augmentation, or `start` lies outside the set.
    pub fn new(
        dataset: Arc<Dataset>,
        options: LoaderOptions,
        start: Position,
    ) -> Result<Self, DataError> {
        let len = dataset.len() as u64;
        if len == 0 {
            return Err(DataError::Empty {
                path: dataset.root().to_owned(),
                what: "sample to load".to_owned(),
            });
        }
        if options.batch == 0 || options.threads == 0 {
            return Err(DataError::Options(
                "the batch and the number of loader threads must be at least 1".to_owned(),
            ));
        }
        let [height, width] = options.transform.size;
        if options.augment.transpose && height != width {
            return Err(DataError::Options(format!(
                "data.transpose needs square images, not {height} x {width}"
            )));
        }
        if start.offset >= len || (!options.repeat && start.epoch > 0) {
            return Err(DataError::Options(format!(
                "cannot resume at epoch {}, image {}: the data set holds {len} images; is it the one the run began with?",
                start.epoch, start.offset
            )));
        }
        if options.repeat && len < options.batch as u64 {
            tracing::warn!(
                "{}: {len} images are fewer than a batch of {}: images repeat within a batch",
                dataset.root().display(),
                options.batch
            );
        }
        let position = start.epoch * len + start.offset;
        let shared = Arc::new(Prefetch {
            classes: dataset.samples().iter().map(|s| s.class).collect(),
            cache: (0..dataset.len()).map(|_| OnceLock::new()).collect(),
            // One batch in the making and one ahead.
            depth: 2 * options.batch.max(options.threads),
            queue: Mutex::new(Queue {
                front: position,
                claim: position,
                slots: VecDeque::new(),
                orders: BTreeMap::new(),
                stop: false,
            }),
            ready: Condvar::new(),
            room: Condvar::new(),
            cached_bytes: AtomicUsize::new(0),
            skipped: Mutex::new(BTreeMap::new()),
            dataset,
            options,
        });
        let mut loader = Self {
            threads: Vec::new(),
            position,
            waited: Duration::ZERO,
            failed: false,
            shared,
        };
        for number in 0..loader.shared.options.threads {
            let shared = Arc::clone(&loader.shared);
            let thread = std::thread::Builder::new()
                .name(format!("loader-{number}"))
                .spawn(move || shared.work())
                .map_err(|e| DataError::Options(format!("cannot start a loader thread: {e}")))?;
            loader.threads.push(thread);
        }
        Ok(loader)
    }

    /// Where the next batch begins.
    pub fn next_position(&self) -> Position {
        self.shared.place(self.position)
    }

    /// The images that could not be decoded so far: index in the data set and reason.
    pub fn skipped(&self) -> Vec<(usize, String)> {
        let skipped = lock(&self.shared.skipped);
        skipped.iter().map(|(i, r)| (*i, r.clone())).collect()
    }

    /// How long [`Loader::next`] has waited for decoding in total: time that the consumer lost.
    pub fn waited(&self) -> Duration {
        self.waited
    }

    fn batch(&mut self) -> Result<Option<Batch>, DataError> {
        let (size, len) = (self.shared.options.batch, self.shared.dataset.len());
        let mut batch = Batch {
            images: Vec::with_capacity(size * self.shared.options.transform.len()),
            labels: Vec::with_capacity(size),
            indices: Vec::with_capacity(size),
            next: Position::default(),
        };
        let mut skipped_in_a_row = 0;
        while batch.len() < size && !self.shared.past_end(self.position) {
            let result = self.take();
            self.position += 1;
            match result {
                Ok(image) => {
                    skipped_in_a_row = 0;
                    batch.images.extend_from_slice(&image.values);
                    batch.labels.push(self.shared.classes[image.sample] as i64);
                    batch.indices.push(image.sample);
                }
                Err(error) if self.shared.options.on_corrupt == OnCorrupt::Fail => {
                    return Err(error);
                }
                Err(error) => {
                    self.shared.check_classes(&error)?;
                    skipped_in_a_row += 1;
                    if skipped_in_a_row == len {
                        return Err(DataError::Empty {
                            path: self.shared.dataset.root().to_owned(),
                            what: format!("readable image; the last error: {error}"),
                        });
                    }
                }
            }
        }
        batch.next = self.next_position();
        Ok((!batch.is_empty()).then_some(batch))
    }

    fn take(&mut self) -> Result<LoadedImage, DataError> {
        let mut queue = lock(&self.shared.queue);
        let mut began = None;
        loop {
            if let Some(slot) = queue.slots.front_mut()
                && let Some(result) = slot.take()
            {
                queue.slots.pop_front();
                queue.front += 1;
                drop(queue);
                self.shared.room.notify_one();
                if let Some(began) = began {
                    self.waited += Instant::elapsed(&began);
                }
                return result;
            }
            began.get_or_insert_with(Instant::now);
            queue = wait(&self.shared.ready, queue);
        }
    }
}

impl Iterator for Loader {
    type Item = Result<Batch, DataError>;

    /// The next batch; `None` after one epoch without `repeat`, or after an error.
    fn next(&mut self) -> Option<Self::Item> {
        if self.failed {
            return None;
        }
        let batch = self.batch();
        self.failed = batch.is_err();
        batch.transpose()
    }
}

impl Drop for Loader {
    fn drop(&mut self) {
        lock(&self.shared.queue).stop = true;
        self.shared.room.notify_all();
        for thread in self.threads.drain(..) {
            // A thread that panicked has nothing left to clean up.
            let _ = thread.join();
        }
    }
}

impl Prefetch {
    fn place(&self, position: u64) -> Position {
        let len = self.dataset.len() as u64;
        Position {
            epoch: position / len,
            offset: position % len,
        }
    }

    fn past_end(&self, position: u64) -> bool {
        !self.options.repeat && position >= self.dataset.len() as u64
    }

    /// A decoding thread: claim the next visit, decode it, put it in its slot.
    fn work(&self) {
        let mut queue = lock(&self.queue);
        loop {
            while !queue.stop && (queue.slots.len() >= self.depth || self.past_end(queue.claim)) {
                queue = wait(&self.room, queue);
            }
            if queue.stop {
                return;
            }
            let number = queue.claim;
            queue.claim += 1;
            queue.slots.push_back(None);
            let place = self.place(number);
            let oldest = self.place(queue.front).epoch;
            queue.orders.retain(|&epoch, _| epoch >= oldest);
            let order = Arc::clone(queue.orders.entry(place.epoch).or_insert_with(|| {
                let o = &self.options;
                let order = epoch_order(&self.classes, o.shuffle, o.balanced, o.seed, place.epoch);
                Arc::new(order)
            }));
            drop(queue);
            let result = self.decode(order[place.offset as usize], place.epoch);
            queue = lock(&self.queue);
            let slot = (number - queue.front) as usize;
            queue.slots[slot] = Some(result);
            // Only the front slot makes the consumer go on.
            if slot == 0 {
                self.ready.notify_one();
            }
        }
    }

    fn decode(&self, visit: Entry, epoch: u64) -> Result<LoadedImage, DataError> {
        let sample = visit.sample as usize;
        let pixels = self.prepared(sample)?;
        let key = stream_key(self.options.seed, RandomStream::Augmentation);
        let orientation = self.options.augment.draw(&mut visit.stream(key, epoch));
        let mut values = vec![0.0; self.options.transform.len()];
        self.options
            .transform
            .finish(&pixels, orientation, &mut values);
        Ok(LoadedImage { values, sample })
    }

    /// The sample at its final size, from the cache or from its source.
    fn prepared(&self, sample: usize) -> Result<Arc<Pixels>, DataError> {
        if let Some(pixels) = self.cache[sample].get() {
            return Ok(Arc::clone(pixels));
        }
        if let Some(reason) = lock(&self.skipped).get(&sample) {
            return Err(self.corrupt(sample, reason.clone()));
        }
        let pixels = self.dataset.pixels(sample).map_err(|e| {
            let reason = match e {
                DataError::Corrupt { reason, .. } => reason,
                other => other.to_string(),
            };
            if lock(&self.skipped).insert(sample, reason.clone()).is_none()
                && self.options.on_corrupt == OnCorrupt::Skip
            {
                tracing::warn!("{}; skipped", self.corrupt(sample, reason.clone()));
            }
            self.corrupt(sample, reason)
        })?;
        let pixels = Arc::new(self.options.transform.prepare(pixels));
        let bytes = pixels.size_bytes();
        let fits = self
            .cached_bytes
            .fetch_update(Ordering::Relaxed, Ordering::Relaxed, |used| {
                Some(used + bytes).filter(|&total| total <= self.options.cache_bytes)
            })
            .is_ok();
        if fits && self.cache[sample].set(Arc::clone(&pixels)).is_err() {
            // Another thread was first with the same sample.
            self.cached_bytes.fetch_sub(bytes, Ordering::Relaxed);
        }
        Ok(pixels)
    }

    /// Stops where no image of a class can be read: going on would train a model that never saw it.
    fn check_classes(&self, last: &DataError) -> Result<(), DataError> {
        let skipped = lock(&self.skipped);
        let mut readable = self.dataset.counts();
        let counts = readable.clone();
        for &sample in skipped.keys() {
            readable[self.classes[sample]] -= 1;
        }
        let lost = (0..counts.len()).find(|&class| counts[class] > 0 && readable[class] == 0);
        match lost {
            // Where it is the only class, an empty batch says so.
            Some(class) if counts.len() > 1 => Err(DataError::ClassLost {
                path: self.dataset.root().to_owned(),
                class: self.dataset.classes()[class].clone(),
                count: counts[class],
                last: last.to_string(),
            }),
            _ => Ok(()),
        }
    }

    fn corrupt(&self, sample: usize, reason: String) -> DataError {
        let sample = &self.dataset.samples()[sample];
        let id = match &sample.source {
            PixelSource::File { path, .. } => path.display().to_string(),
            PixelSource::Array { .. } => sample.id.clone(),
        };
        DataError::Corrupt { id, reason }
    }
}

/// A lock whose holder panicked still guards whole values here.
fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

fn wait<'a, T>(condition: &Condvar, guard: MutexGuard<'a, T>) -> MutexGuard<'a, T> {
    condition
        .wait(guard)
        .unwrap_or_else(PoisonError::into_inner)
}
