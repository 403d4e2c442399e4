//! How time is taken: ours and the floor in turns, in one run, so that whatever slows the machine down slows both.

use std::time::{Duration, Instant};

use anyhow::{Context as _, Result};
use hdrhistogram::Histogram;

/// Latencies, in nanoseconds, with three digits.
pub type Latencies = Histogram<u64>;

pub fn new_latencies() -> Latencies {
    Histogram::new(3).expect("three digits are few enough")
}

/// A quantile in seconds.
pub fn quantile(latencies: &Latencies, quantile: f64) -> f64 {
    latencies.value_at_quantile(quantile) as f64 / 1e9
}

pub fn median(values: &mut [f64]) -> f64 {
    values.sort_by(f64::total_cmp);
    match values.len() {
        0 => f64::NAN,
        length if length % 2 == 1 => values[length / 2],
        length => f64::midpoint(values[length / 2 - 1], values[length / 2]),
    }
}

/// What one sample is of.
#[derive(Debug, Clone, Copy)]
pub enum Sample {
    /// One operation: for percentiles.
    Operation,
    /// The mean of a batch: for operations so short that reading the clock would be much of them.
    Batch,
}

/// Two sides' latencies.
pub struct Pair {
    pub ours: Latencies,
    pub floor: Latencies,
}

impl Pair {
    /// The medians, ours first.
    pub fn medians(&self) -> (f64, f64) {
        (quantile(&self.ours, 0.5), quantile(&self.floor, 0.5))
    }
}

/// Runs both sides in turns of `batch` operations; the side that begins changes each round. Both are told how many times
/// they were called before.
pub fn alternate(
    rounds: usize,
    batch: usize,
    sample: Sample,
    mut ours: impl FnMut(usize) -> Result<()>,
    mut floor: impl FnMut(usize) -> Result<()>,
) -> Result<Pair> {
    let clock = cost_of_the_clock();
    let mut pair = Pair { ours: new_latencies(), floor: new_latencies() };
    for round in 0..rounds {
        let first = round * batch;
        if round % 2 == 0 {
            run_batch(first, batch, sample, clock, &mut pair.ours, &mut ours)?;
            run_batch(first, batch, sample, clock, &mut pair.floor, &mut floor)?;
        } else {
            run_batch(first, batch, sample, clock, &mut pair.floor, &mut floor)?;
            run_batch(first, batch, sample, clock, &mut pair.ours, &mut ours)?;
        }
    }
    Ok(pair)
}

/// Takes `operations` latencies of one side alone.
pub fn latencies(operations: usize, mut operation: impl FnMut(usize) -> Result<()>) -> Result<Latencies> {
    let mut latencies = new_latencies();
    run_batch(0, operations, Sample::Operation, cost_of_the_clock(), &mut latencies, &mut operation)?;
    Ok(latencies)
}

fn run_batch(
    first: usize,
    batch: usize,
    sample: Sample,
    clock: Duration,
    latencies: &mut Latencies,
    operation: &mut impl FnMut(usize) -> Result<()>,
) -> Result<()> {
    let record = |latencies: &mut Latencies, took: Duration, operations: usize| -> Result<()> {
        let took = took.saturating_sub(clock).as_nanos() / operations as u128;
        // It grows as it must, which a saturating record would not let it.
        latencies.record(u64::try_from(took)?).context("a latency")
    };
    match sample {
        Sample::Operation => {
            for number in first..first + batch {
                let began = Instant::now();
                operation(number)?;
                record(latencies, began.elapsed(), 1)?;
            }
        }
        Sample::Batch => {
            let began = Instant::now();
            for number in first..first + batch {
                operation(number)?;
            }
            record(latencies, began.elapsed(), batch)?;
        }
    }
    Ok(())
}

/// Runs both sides in turns, `rounds` times each. A side says itself what it took, so that what it prepares and clears away
/// does not count. The medians, ours first.
pub fn alternate_runs(
    rounds: usize,
    mut ours: impl FnMut() -> Result<f64>,
    mut floor: impl FnMut() -> Result<f64>,
) -> Result<(f64, f64)> {
    let (mut of_ours, mut of_floor) = (Vec::new(), Vec::new());
    for round in 0..rounds {
        if round % 2 == 0 {
            of_ours.push(ours()?);
            of_floor.push(floor()?);
        } else {
            of_floor.push(floor()?);
            of_ours.push(ours()?);
        }
    }
    Ok((median(&mut of_ours), median(&mut of_floor)))
}

/// The median of several runs.
pub fn median_of(rounds: usize, mut run: impl FnMut() -> Result<f64>) -> Result<f64> {
    let mut values = (0..rounds).map(|_| run()).collect::<Result<Vec<_>>>()?;
    Ok(median(&mut values))
}

/// Seconds that a call takes.
pub fn seconds<T>(call: impl FnOnce() -> Result<T>) -> Result<(f64, T)> {
    let began = Instant::now();
    let value = call()?;
    Ok((began.elapsed().as_secs_f64(), value))
}

/// What two readings of the clock are apart, though nothing is between them.
fn cost_of_the_clock() -> Duration {
    let mut readings: Vec<_> = (0..1001)
        .map(|_| {
            let began = Instant::now();
            began.elapsed()
        })
        .collect();
    readings.sort();
    readings[readings.len() / 2]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn both_sides_are_called_as_often_and_in_turns() -> Result<()> {
        let calls = std::cell::RefCell::new(String::new());
        let note = |side| {
            calls.borrow_mut().push(side);
            Ok(())
        };
        let pair = alternate(2, 2, Sample::Operation, |_| note('o'), |_| note('f'))?;
        assert_eq!(calls.into_inner(), "ooffffoo");
        assert_eq!((pair.ours.len(), pair.floor.len()), (4, 4));
        Ok(())
    }

    #[test]
    fn latencies_of_any_length_are_kept() -> Result<()> {
        let slept = latencies(3, |_| {
            std::thread::sleep(Duration::from_millis(2));
            Ok(())
        })?;
        assert!(quantile(&slept, 0.5) >= 0.0019);
        Ok(())
    }

    #[test]
    fn the_median_is_in_the_middle() {
        assert!((median(&mut [3.0, 1.0, 2.0]) - 2.0).abs() < 1e-9);
        assert!((median(&mut [4.0, 1.0, 2.0, 3.0]) - 2.5).abs() < 1e-9);
    }
}
