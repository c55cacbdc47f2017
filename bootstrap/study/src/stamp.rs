//! Instants as people write them, in UTC.

use infernet_protocol::UnixMillis;

/// Year, month, day, hour, minute and second of an instant.
fn civil(at: UnixMillis) -> (i64, u32, u32, u64, u64, u64) {
    // Within the year 9999, so that a name keeps its width whatever a clock says.
    let seconds = (at.0 / 1000).min(253_402_300_799);
    // Howard Hinnant's `civil_from_days`: eras of 400 years that begin on 1 March.
    let days = i64::try_from(seconds / 86_400).unwrap_or_default() + 719_468;
    let (era, day_of_era) = (days.div_euclid(146_097), days.rem_euclid(146_097));
    let year_of_era = (day_of_era - day_of_era / 1460 + day_of_era / 36_524 - day_of_era / 146_096) / 365;
    let day_of_year = day_of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    let shifted = (5 * day_of_year + 2) / 153;
    let day = u32::try_from(day_of_year - (153 * shifted + 2) / 5 + 1).unwrap_or(1);
    let month = u32::try_from(if shifted < 10 { shifted + 3 } else { shifted - 9 }).unwrap_or(1);
    let year = era * 400 + year_of_era + i64::from(month <= 2);
    let of_day = seconds % 86_400;
    (year, month, day, of_day / 3600, of_day / 60 % 60, of_day % 60)
}

/// `20261128T055244Z`: sorts by time, and fits into a file's name.
#[must_use]
pub fn compact(at: UnixMillis) -> String {
    let (year, month, day, hour, minute, second) = civil(at);
    format!("{year:04}{month:02}{day:02}T{hour:02}{minute:02}{second:02}Z")
}

/// `2026-11-28 05:52:44 UTC`.
#[must_use]
pub fn long(at: UnixMillis) -> String {
    let (year, month, day, hour, minute, second) = civil(at);
    format!("{year:04}-{month:02}-{day:02} {hour:02}:{minute:02}:{second:02} UTC")
}

/// `05:52`.
#[must_use]
pub fn clock(at: UnixMillis) -> String {
    let (.., hour, minute, _) = civil(at);
    format!("{hour:02}:{minute:02}")
}

/// `11-28 05:52`.
#[must_use]
pub fn day_and_clock(at: UnixMillis) -> String {
    let (_, month, day, hour, minute, _) = civil(at);
    format!("{month:02}-{day:02} {hour:02}:{minute:02}")
}

/// A duration as people say it: `850 ms`, `12 s`, `4 min`, `3 h 20 min`, `2 d 4 h`.
#[must_use]
pub fn duration(millis: u64) -> String {
    let seconds = millis / 1000;
    let two = |whole: u64, unit: &str, part: u64, small: &str| match part {
        0 => format!("{whole} {unit}"),
        part => format!("{whole} {unit} {part} {small}"),
    };
    match seconds {
        0 => format!("{millis} ms"),
        1..120 => format!("{seconds} s"),
        120..7200 => two(seconds / 60, "min", seconds % 60, "s"),
        7200..172_800 => two(seconds / 3600, "h", seconds / 60 % 60, "min"),
        _ => two(seconds / 86_400, "d", seconds / 3600 % 24, "h"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn instants_read_as_the_calendar_has_them() {
        for (seconds, text) in [
            (0, "1970-01-01 00:00:00 UTC"),
            (951_782_400, "2000-02-29 00:00:00 UTC"),
            (1_795_845_164, "2026-11-28 05:52:44 UTC"),
            (u64::MAX / 1000, "9999-12-31 23:59:59 UTC"),
        ] {
            assert_eq!(long(UnixMillis(seconds * 1000)), text);
        }
        assert_eq!(compact(UnixMillis(1_795_845_164_999)), "20261128T055244Z");
        assert_eq!(duration(850), "850 ms");
        assert_eq!(duration(12_000_000), "3 h 20 min");
    }
}
