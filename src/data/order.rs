//! The order in which an epoch visits the samples: a function of seed and epoch only.

use crate::tensor::philox::{
    Philox, RandomStream, philox4x32_10, stream_counter, stream_key, uniform_below,
};

/// One visit to a sample.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Entry {
    /// Index of the sample in the data set.
    pub sample: u32,
    /// How often the epoch has visited the sample before (balanced sampling repeats rare classes).
    pub occurrence: u32,
}

impl Entry {
    /// Random words of this visit in an epoch; the first four are its own.
    pub fn stream(&self, key: [u32; 2], epoch: u64) -> Philox {
        let element = 4 * u64::from(self.occurrence);
        Philox::at(key, self.sample.into(), epoch as u32, element)
    }
}

/// The visits of one epoch, as many as there are samples. `classes[i]` is the class of sample `i`.
///
/// - Neither flag: ascending.
/// - `shuffle`: a random permutation.
/// - `balanced`: every class that occurs gets an equal share (± 1), in random order; a class larger than its share is
///   drawn from without replacement, a smaller one is gone through repeatedly. Implies `shuffle`.
pub fn epoch_order(
    classes: &[usize],
    shuffle: bool,
    balanced: bool,
    seed: u64,
    epoch: u64,
) -> Vec<Entry> {
    let mut order: Vec<Entry> = (0..classes.len() as u32)
        .map(|sample| Entry {
            sample,
            occurrence: 0,
        })
        .collect();
    if balanced {
        order = balanced_visits(classes, seed, epoch);
    }
    if shuffle || balanced {
        permute(&mut order, seed, epoch, 0);
    }
    order
}

fn balanced_visits(classes: &[usize], seed: u64, epoch: u64) -> Vec<Entry> {
    let mut members: Vec<Vec<u32>> = vec![Vec::new(); classes.iter().max().map_or(0, |m| m + 1)];
    for (sample, &class) in classes.iter().enumerate() {
        members[class].push(sample as u32);
    }
    members.retain(|samples| !samples.is_empty());
    let mut visits = Vec::with_capacity(classes.len());
    let kinds = members.len() as u64;
    for (class, samples) in members.iter_mut().enumerate() {
        // The classes take turns at the remainder of the division.
        let turn = (class as u64 + epoch) % kinds.max(1);
        let share = classes.len() as u64 / kinds + u64::from(turn < classes.len() as u64 % kinds);
        permute(samples, seed, epoch, 1 + class as u32);
        visits.extend((0..share).map(|i| Entry {
            sample: samples[(i % samples.len() as u64) as usize],
            occurrence: (i / samples.len() as u64) as u32,
        }));
    }
    visits
}

/// Fisher–Yates with the random words of (seed, epoch, stream).
fn permute<T>(items: &mut [T], seed: u64, epoch: u64, stream: u32) {
    let key = stream_key(seed, RandomStream::Shuffle);
    // Not `rand`'s shuffle: a run that goes on repeats these bits, whatever `rand` draws by then.
    for last in (1..items.len()).rev() {
        // One block serves two draws.
        let words = philox4x32_10(key, stream_counter(epoch, stream, last as u32 / 2));
        let half = last % 2 * 2;
        let chosen = uniform_below(words[half], words[half + 1], last as u64 + 1);
        items.swap(last, chosen as usize);
    }
}

#[cfg(test)]
mod tests {
    use rand::Rng;

    use super::*;

    /// What a run that goes on has drawn before: the block whose number is the occurrence.
    #[test]
    fn a_visits_words_are_those_of_its_block() {
        let key = stream_key(3, RandomStream::Augmentation);
        let visit = Entry {
            sample: 5,
            occurrence: 2,
        };
        let mut stream = visit.stream(key, 7);
        let words = [(); 4].map(|()| stream.next_u32());
        assert_eq!(words, philox4x32_10(key, stream_counter(5, 7, 2)));
    }

    fn samples(order: &[Entry]) -> Vec<u32> {
        order.iter().map(|e| e.sample).collect()
    }

    #[test]
    fn a_shuffle_is_a_permutation_that_seed_and_epoch_decide() {
        let classes = vec![0; 1000];
        let order = |seed, epoch| samples(&epoch_order(&classes, true, false, seed, epoch));
        assert_eq!(order(1, 2), order(1, 2));
        assert_ne!(order(1, 2), order(1, 3));
        assert_ne!(order(1, 2), order(2, 2));
        let mut sorted = order(7, 7);
        sorted.sort_unstable();
        assert!(sorted.into_iter().eq(0..1000));
        let plain = samples(&epoch_order(&classes, false, false, 1, 5));
        assert!(plain.into_iter().eq(0..1000));
    }

    /// Chi-squared over where sample 0 lands: 8 cells, 7 degrees of freedom, 0.1 % critical value 24.3.
    #[test]
    fn shuffles_are_uniform() {
        let mut cells = [0.0f64; 8];
        for epoch in 0..4000 {
            let order = samples(&epoch_order(&[0; 8], true, false, 11, epoch));
            cells[order.iter().position(|&s| s == 0).unwrap()] += 1.0;
        }
        let chi: f64 = cells.iter().map(|n| (n - 500.0).powi(2) / 500.0).sum();
        assert!(chi < 24.3, "chi squared {chi}");
    }

    #[test]
    fn balanced_shares_are_equal_and_rare_classes_repeat() {
        let mut classes = vec![0; 90];
        classes.extend([1; 8]);
        classes.extend([3; 3]); // class 2 has no sample
        let order = epoch_order(&classes, false, true, 3, 0);
        assert_eq!(order.len(), 101);
        let count = |class| {
            order
                .iter()
                .filter(|e| classes[e.sample as usize] == class)
                .count()
        };
        let mut counts = [count(0), count(1), count(3)];
        counts.sort_unstable();
        assert_eq!(counts, [33, 34, 34]);
        let mut visits: Vec<(u32, u32)> = order.iter().map(|e| (e.sample, e.occurrence)).collect();
        visits.sort_unstable();
        visits.dedup();
        assert_eq!(
            visits.len(),
            101,
            "each visit of a sample has its own number"
        );
        assert!(order.iter().all(|e| e.sample >= 90 || e.occurrence == 0));
    }
}
