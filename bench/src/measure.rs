//! Timing: ours and the floor in turns, in one run, so that a slow machine slows both.

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

/// What one sample measures.
#[derive(Debug, Clone, Copy)]
pub enum Sample {
    /// One operation: for percentiles.
    Operation,
    /// The mean of a batch: for operations as short as a reading of the clock.
    Batch,
}

/// The latencies of both sides.
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

/// Runs both sides in turns, `rounds` times each. The side that runs first changes each round. Each side gets the round's
/// number.
pub fn in_turns(
    rounds: usize,
    mut ours: impl FnMut(usize) -> Result<()>,
    mut floor: impl FnMut(usize) -> Result<()>,
) -> Result<()> {
    for round in 0..rounds {
        if round % 2 == 0 {
            ours(round)?;
            floor(round)?;
        } else {
            floor(round)?;
            ours(round)?;
        }
    }
    Ok(())
}

/// Runs both sides in turns of `batch` operations. Each operation gets the number of earlier ones of its side.
pub fn alternate(
    rounds: usize,
    batch: usize,
    sample: Sample,
    mut ours: impl FnMut(usize) -> Result<()>,
    mut floor: impl FnMut(usize) -> Result<()>,
) -> Result<Pair> {
    let clock = cost_of_the_clock();
    let mut pair = Pair { ours: new_latencies(), floor: new_latencies() };
    in_turns(
        rounds,
        |round| run_batch(round * batch, batch, sample, clock, &mut pair.ours, &mut ours),
        |round| run_batch(round * batch, batch, sample, clock, &mut pair.floor, &mut floor),
    )?;
    Ok(pair)
}

/// The latencies of `operations` calls of one side alone.
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
        // The histogram grows here; saturating_record() would not let it.
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

/// Runs both sides in turns, `rounds` times each. A side returns its own time, so that its preparation does not count.
/// Returns the medians, ours first.
pub fn alternate_runs(
    rounds: usize,
    mut ours: impl FnMut() -> Result<f64>,
    mut floor: impl FnMut() -> Result<f64>,
) -> Result<(f64, f64)> {
    let (mut of_ours, mut of_floor) = (Vec::new(), Vec::new());
    in_turns(
        rounds,
        |_| {
            of_ours.push(ours()?);
            Ok(())
        },
        |_| {
            of_floor.push(floor()?);
            Ok(())
        },
    )?;
    Ok((median(&mut of_ours), median(&mut of_floor)))
}

/// The median of several runs.
pub fn median_of(rounds: usize, mut run: impl FnMut() -> Result<f64>) -> Result<f64> {
    let mut values = (0..rounds).map(|_| run()).collect::<Result<Vec<_>>>()?;
    Ok(median(&mut values))
}

/// The seconds that a call takes, and its result.
pub fn seconds<T>(call: impl FnOnce() -> Result<T>) -> Result<(f64, T)> {
    let began = Instant::now();
    let value = call()?;
    Ok((began.elapsed().as_secs_f64(), value))
}

/// The median time between two readings of the clock with nothing between them.
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
