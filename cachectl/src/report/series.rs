//! Values over time, out of the samples of a history.

use crate::metrics::history::Sample;

/// So many points has a chart at most.
const POINTS: u64 = 96;

/// The samples of one part of the time, between two ends.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Step {
    /// Seconds since 1970.
    pub from: u64,
    pub to: u64,
    /// The last sample in it; `None` if there is none.
    pub last: Option<Sample>,
    /// What was counted in it.
    pub hits: u64,
    pub misses: u64,
    pub evicted_bytes: u64,
}

impl Step {
    /// Hits of all reads, in per cent; `None` without a read.
    pub fn hit_ratio(&self) -> Option<u64> {
        self.hits.saturating_mul(100).checked_div(self.hits.saturating_add(self.misses))
    }
}

/// The growth of a counter. It begins again at 0 in a new cache.
fn growth(before: u64, after: u64) -> u64 {
    if after >= before { after - before } else { after }
}

/// Divides the time of the samples, which are in order, into equal steps. None for fewer than two moments.
pub fn steps(samples: &[Sample]) -> Vec<Step> {
    let (Some(first), Some(last)) = (samples.first(), samples.last()) else { return Vec::new() };
    let span = last.time - first.time;
    if span == 0 {
        return Vec::new();
    }
    let moments = u64::try_from(samples.len()).unwrap_or(POINTS) - 1;
    let count = POINTS.min(moments).min(span).max(1);
    let end = |number: u64| {
        first.time + u64::try_from(u128::from(span) * u128::from(number) / u128::from(count)).unwrap_or(0)
    };
    let mut steps: Vec<_> = (0..count)
        .map(|number| Step { from: end(number), to: end(number + 1), last: None, hits: 0, misses: 0, evicted_bytes: 0 })
        .collect();
    let mut place = 0;
    for pair in samples.windows(2) {
        let [before, after] = pair else { continue };
        while place + 1 < steps.len() && after.time > steps[place].to {
            place += 1;
        }
        let step = &mut steps[place];
        step.hits = step.hits.saturating_add(growth(before.hits, after.hits));
        step.misses = step.misses.saturating_add(growth(before.misses, after.misses));
        step.evicted_bytes = step.evicted_bytes.saturating_add(growth(before.evicted_bytes, after.evicted_bytes));
        step.last = Some(after.clone());
    }
    steps
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sample(time: u64, hits: u64, misses: u64) -> Sample {
        Sample { time, hits, misses, evicted_bytes: hits * 2, ..Sample::default() }
    }

    #[test]
    fn counters_are_shown_as_what_they_grew_in_each_step() {
        let steps = steps(&[sample(100, 10, 0), sample(200, 13, 1), sample(300, 13, 1), sample(400, 2, 0)]);
        let shown: Vec<_> = steps.iter().map(|step| (step.from, step.to, step.hits, step.hit_ratio())).collect();
        // The last one is of a new cache.
        assert_eq!(shown, [(100, 200, 3, Some(75)), (200, 300, 0, None), (300, 400, 2, Some(100))]);
        assert_eq!(steps[0].evicted_bytes, 6);
    }

    #[test]
    fn many_samples_are_few_steps_and_none_is_lost() {
        let samples: Vec<_> = (0..1001).map(|number| sample(5000 + number * 7, number, 0)).collect();
        let steps = steps(&samples);
        assert_eq!(steps.len(), 96);
        assert_eq!(steps.iter().map(|step| step.hits).sum::<u64>(), 1000);
        assert_eq!(steps.last().unwrap().last.as_ref(), samples.last());
    }

    #[test]
    fn one_moment_is_no_time() {
        assert!(
            steps(&[]).is_empty()
                && steps(&[sample(1, 1, 1)]).is_empty()
                && steps(&[sample(1, 1, 1), sample(1, 2, 2)]).is_empty()
        );
    }
}
