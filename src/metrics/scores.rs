//! How well class scores tell the classes apart.

/// What a classifier does on a labelled set.
#[derive(Clone, Debug, PartialEq)]
pub struct Scores {
    /// Share of samples whose largest logit is their class.
    pub accuracy: f64,
    /// Area under the ROC curve, one class against the others, averaged over the classes; `None` where the set holds
    /// one class only.
    pub auroc: Option<f64>,
    /// Mean cross-entropy in nats.
    pub loss: f64,
    /// Share of each class that was recognised; `None` for a class without samples.
    pub recall: Vec<Option<f64>>,
}

impl Scores {
    /// From logits, `classes` per sample, and labels.
    ///
    /// # Panics
    /// If the lengths do not fit or there is no sample.
    pub fn new(logits: &[f32], labels: &[i32], classes: usize) -> Self {
        assert_eq!(logits.len(), labels.len() * classes);
        assert!(!labels.is_empty());
        let mut hits = vec![0usize; classes];
        let mut counts = vec![0usize; classes];
        let mut loss = 0.0;
        let mut probabilities = vec![Vec::with_capacity(labels.len()); classes];
        for (row, &label) in logits.chunks_exact(classes).zip(labels) {
            let label = label as usize;
            let best = (0..classes)
                .max_by(|&a, &b| row[a].total_cmp(&row[b]))
                .expect("at least one class");
            counts[label] += 1;
            hits[label] += usize::from(best == label);
            let largest = f64::from(row[best]);
            let sum: f64 = row.iter().map(|&z| (f64::from(z) - largest).exp()).sum();
            loss += sum.ln() + largest - f64::from(row[label]);
            for (class, &z) in row.iter().enumerate() {
                probabilities[class].push((f64::from(z) - largest).exp() / sum);
            }
        }
        let areas: Vec<f64> = probabilities
            .iter()
            .enumerate()
            .filter_map(|(class, scores)| {
                let positive: Vec<bool> = labels.iter().map(|&l| l as usize == class).collect();
                auroc(scores, &positive)
            })
            .collect();
        let total = labels.len() as f64;
        Self {
            accuracy: hits.iter().sum::<usize>() as f64 / total,
            auroc: (!areas.is_empty()).then(|| areas.iter().sum::<f64>() / areas.len() as f64),
            loss: loss / total,
            recall: (hits.iter().zip(&counts))
                .map(|(&hits, &count)| (count > 0).then(|| hits as f64 / count as f64))
                .collect(),
        }
    }
}

/// Probability that a positive scores higher than a negative, ties counting half (Mann-Whitney); `None` without one of
/// them.
pub fn auroc(scores: &[f64], positive: &[bool]) -> Option<f64> {
    let mut order: Vec<usize> = (0..scores.len()).collect();
    order.sort_by(|&a, &b| scores[a].total_cmp(&scores[b]));
    let positives = positive.iter().filter(|p| **p).count();
    let negatives = positive.len() - positives;
    if positives == 0 || negatives == 0 {
        return None;
    }
    let (mut below, mut area) = (0usize, 0.0);
    let mut rest = &order[..];
    while let Some(&first) = rest.first() {
        let ties = rest
            .iter()
            .take_while(|&&i| scores[i] == scores[first])
            .count()
            .max(1);
        let (tied, later) = rest.split_at(ties);
        let here = tied.iter().filter(|&&i| positive[i]).count();
        area += here as f64 * (below as f64 + (ties - here) as f64 / 2.0);
        below += ties - here;
        rest = later;
    }
    Some(area / (positives as f64 * negatives as f64))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn auroc_counts_ties_half() {
        let positive = [true, true, false, false];
        assert_eq!(auroc(&[0.9, 0.8, 0.1, 0.2], &positive), Some(1.0));
        assert_eq!(auroc(&[0.1, 0.2, 0.9, 0.8], &positive), Some(0.0));
        assert_eq!(auroc(&[0.5; 4], &positive), Some(0.5));
        // Pairs: (0.9, 0.5) 1, (0.9, 0.9) half, (0.5, 0.5) half, (0.5, 0.9) 0.
        assert_eq!(auroc(&[0.9, 0.5, 0.5, 0.9], &positive), Some(0.5));
        assert_eq!(auroc(&[0.9, 0.6, 0.5, 0.9], &positive), Some(0.625));
        assert_eq!(auroc(&[0.1, 0.2], &[true, true]), None);
    }

    #[test]
    fn scores_of_logits() {
        let logits = [2.0, 0.0, 0.0, 3.0, 1.0, 0.0];
        let scores = Scores::new(&logits, &[0, 1, 1], 2);
        assert_eq!(scores.accuracy, 2.0 / 3.0);
        assert_eq!(scores.recall, [Some(1.0), Some(0.5)]);
        let term = |right: f64, wrong: f64| (1.0 + (wrong - right).exp()).ln();
        let loss = (term(2.0, 0.0) + term(3.0, 0.0) + term(0.0, 1.0)) / 3.0;
        assert!((scores.loss - loss).abs() < 1e-12);
        assert_eq!(scores.auroc, Some(1.0));
    }
}
