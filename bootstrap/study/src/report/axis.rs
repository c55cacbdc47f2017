//! Axes of charts: from where to where, and at which round values they are marked.

/// What an axis counts, and how its values are written.
pub(super) struct Axis<'a> {
    /// Its title, with the unit.
    pub(super) title: &'a str,
    pub(super) low: f64,
    pub(super) high: f64,
    pub(super) is_log: bool,
    /// Where it is marked.
    pub(super) ticks: Vec<f64>,
    pub(super) show: &'a dyn Fn(f64) -> String,
}

impl<'a> Axis<'a> {
    /// From nothing to at least `high`, in at most five round steps.
    pub(super) fn from_zero(title: &'a str, high: f64, show: &'a dyn Fn(f64) -> String) -> Self {
        let step = round_step(high.max(1.0) / 5.0);
        let steps = (high.max(1.0) / step).ceil().max(1.0);
        Self {
            title,
            low: 0.0,
            high: steps * step,
            is_log: false,
            ticks: (0..=steps as u32).map(|tick| f64::from(tick) * step).collect(),
            show,
        }
    }

    /// From `low` to `high` in powers, marked at 1, 2 and 5 of each or at powers alone where there are many.
    pub(super) fn log(title: &'a str, low: f64, high: f64, show: &'a dyn Fn(f64) -> String) -> Self {
        let (low, high) = (low.max(1.0), high.max(low.max(1.0) * 2.0));
        let (from, to) = (low.log10().floor() as i32, high.log10().ceil() as i32);
        let is_long = to - from > 2;
        let of_power = |power: i32| {
            let parts: &[f64] = if is_long { &[1.0] } else { &[1.0, 2.0, 5.0] };
            parts.iter().map(move |part| part * 10_f64.powi(power))
        };
        let marks: Vec<f64> = (from..=to).flat_map(of_power).collect();
        let below = marks
            .iter()
            .copied()
            .filter(|mark| *mark <= low)
            .fold(low, |_, mark| mark);
        let above = marks.iter().copied().find(|mark| *mark >= high).unwrap_or(high);
        Self {
            title,
            low: below,
            high: above,
            is_log: true,
            ticks: marks
                .into_iter()
                .filter(|mark| (below..=above).contains(mark))
                .collect(),
            show,
        }
    }

    /// Where a value lies, between 0 and 1.
    pub(super) fn place(&self, value: f64) -> f64 {
        let scale = |value: f64| if self.is_log { value.max(1.0).log10() } else { value };
        let (low, high) = (scale(self.low), scale(self.high));
        ((scale(value) - low) / (high - low).max(f64::MIN_POSITIVE)).clamp(0.0, 1.0)
    }
}

/// The next of 1, 2, 2.5 and 5 times a power of ten that is a whole number.
fn round_step(step: f64) -> f64 {
    let power = 10_f64.powf(step.max(1.0).log10().floor());
    let rounds = [1.0, 2.0, 2.5, 5.0, 10.0].into_iter().map(|part| part * power);
    rounds
        .filter(|round| round.fract() == 0.0)
        .find(|round| *round >= step)
        .unwrap_or(step.ceil())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn axes_end_at_round_values() {
        let show = |value: f64| format!("{value}");
        for (high, ticks) in [
            (0.0, vec![0.0, 1.0]),
            (3.0, vec![0.0, 1.0, 2.0, 3.0]),
            (36.0, vec![0.0, 10.0, 20.0, 30.0, 40.0]),
            (410.0, vec![0.0, 100.0, 200.0, 300.0, 400.0, 500.0]),
            (
                1_200_000.0,
                vec![0.0, 250_000.0, 500_000.0, 750_000.0, 1_000_000.0, 1_250_000.0],
            ),
        ] {
            assert_eq!(Axis::from_zero("", high, &show).ticks, ticks, "{high}");
        }
        assert_eq!(
            Axis::log("", 30.0, 700.0, &show).ticks,
            [20.0, 50.0, 100.0, 200.0, 500.0, 1000.0]
        );
        assert_eq!(
            Axis::log("", 2.0, 90_000.0, &show).ticks,
            [1.0, 10.0, 100.0, 1_000.0, 10_000.0, 100_000.0]
        );
    }
}
