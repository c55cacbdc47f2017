//! Many values, of which quantiles are wanted.

/// Values kept: enough for the 99th percentile to be told from ten thousand.
const KEPT: usize = 20_000;

/// Values, thinned evenly where there are too many.
#[derive(Clone, Debug)]
pub(super) struct Spread {
    values: Vec<u64>,
    /// One in so many is kept.
    stride: u64,
    seen: u64,
}

impl Default for Spread {
    fn default() -> Self {
        Self {
            values: Vec::new(),
            stride: 1,
            seen: 0,
        }
    }
}

/// What is told of many values.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Summary {
    pub(super) count: u64,
    pub(super) least: u64,
    pub(super) median: u64,
    pub(super) p90: u64,
    pub(super) p99: u64,
    pub(super) most: u64,
}

impl Spread {
    pub(super) fn add(&mut self, value: u64) {
        if self.seen.is_multiple_of(self.stride) {
            self.values.push(value);
        }
        self.seen += 1;
        if self.values.len() >= 2 * KEPT {
            let mut index = 0;
            self.values.retain(|_| {
                index += 1;
                index % 2 == 1
            });
            self.stride *= 2;
        }
    }

    pub(super) fn sorted(&self) -> Vec<u64> {
        let mut values = self.values.clone();
        values.sort_unstable();
        values
    }

    pub(super) fn summary(&self) -> Option<Summary> {
        let values = self.sorted();
        let (least, most) = (*values.first()?, *values.last()?);
        // Nearest rank.
        let at = |percent: usize| values[(values.len() * percent).div_ceil(100).max(1) - 1];
        Some(Summary {
            count: self.seen,
            least,
            median: at(50),
            p90: at(90),
            p99: at(99),
            most,
        })
    }
}

impl FromIterator<u64> for Spread {
    fn from_iter<I: IntoIterator<Item = u64>>(values: I) -> Self {
        let mut spread = Self::default();
        values.into_iter().for_each(|value| spread.add(value));
        spread
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn quantiles_are_those_of_the_values() {
        assert_eq!(Spread::default().summary(), None);
        let one = Spread::from_iter([7]).summary().unwrap();
        assert_eq!((one.least, one.median, one.p99, one.most), (7, 7, 7, 7));
        let hundred = Spread::from_iter(1..=100).summary().unwrap();
        assert_eq!((hundred.median, hundred.p90, hundred.p99), (50, 90, 99));
    }

    #[test]
    fn many_values_are_thinned_and_still_counted() {
        let many = Spread::from_iter((0..1_000_000).map(|value| value % 1000));
        let summary = many.summary().unwrap();
        assert!(many.values.len() < 2 * KEPT);
        assert_eq!(summary.count, 1_000_000);
        assert!(
            summary.median.abs_diff(500) < 20 && summary.p99.abs_diff(990) < 20,
            "{summary:?}"
        );
    }
}
