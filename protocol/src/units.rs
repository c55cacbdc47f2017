//! Time and money as integers. Implements `specs/receipts.md`, "Money".

use crate::codec::{Malformed, Reader, Wire, Writer};

macro_rules! unit {
    ($(#[$meta:meta])* $name:ident($inner:ty)) => {
        $(#[$meta])*
        #[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
        pub struct $name(pub $inner);

        impl Wire for $name {
            fn encode(&self, writer: &mut Writer) {
                self.0.encode(writer);
            }

            fn decode(reader: &mut Reader<'_>) -> Result<Self, Malformed> {
                <$inner>::decode(reader).map(Self)
            }
        }
    };
}

unit!(
    /// Milliseconds since the Unix epoch. For freshness and replay only: what matters inside a deal is a duration.
    UnixMillis(u64)
);
unit!(
    /// A duration in milliseconds.
    Millis(u32)
);
unit!(
    /// Micro-USD: a millionth of a US dollar, one base unit of USDC.
    MicroUsd(u64)
);

impl UnixMillis {
    /// The instant `duration` later.
    #[must_use]
    pub fn after(self, duration: Millis) -> Self {
        Self(self.0.saturating_add(u64::from(duration.0)))
    }

    /// Milliseconds from `earlier` to this instant, 0 when it lies in the future.
    #[must_use]
    pub fn since(self, earlier: Self) -> u64 {
        self.0.saturating_sub(earlier.0)
    }

    /// Distance between two instants in milliseconds.
    #[must_use]
    pub fn distance(self, other: Self) -> u64 {
        self.0.abs_diff(other.0)
    }
}

impl MicroUsd {
    /// Dollars as people write them, `0.25` or `12`: at most six decimals, and no float in between.
    #[must_use]
    pub fn from_dollars(text: &str) -> Option<Self> {
        let (whole, part) = text.split_once('.').unwrap_or((text, ""));
        let is_digits = |text: &str| text.bytes().all(|byte| byte.is_ascii_digit());
        if whole.is_empty() || part.len() > 6 || !is_digits(whole) || !is_digits(part) {
            return None;
        }
        let whole: u64 = whole.parse().ok()?;
        let part: u64 = format!("{part:0<6}").parse().ok()?;
        whole.checked_mul(1_000_000)?.checked_add(part).map(Self)
    }
}

impl std::fmt::Display for MicroUsd {
    /// Dollars, with as many decimals as the amount needs: `$0`, `$0.25`, `$0.000007`.
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let (whole, part) = (self.0 / 1_000_000, self.0 % 1_000_000);
        let decimals = format!("{part:06}");
        let decimals = decimals.trim_end_matches('0');
        f.pad(&if decimals.is_empty() {
            format!("${whole}")
        } else {
            format!("${whole}.{decimals:0<2}")
        })
    }
}

wire_struct! {
    /// What a provider asks, or the most a buyer pays.
    #[derive(Copy, Default, Hash)]
    pub struct Price {
        /// Micro-USD per million input tokens.
        pub input: MicroUsd,
        /// Micro-USD per million output tokens.
        pub output: MicroUsd,
        /// Micro-USD per request.
        pub request: MicroUsd,
    }
}

/// Tokens that a price is quoted for.
const TOKENS_PER_PRICE: u128 = 1_000_000;

impl Price {
    /// Nothing at all.
    pub const FREE: Self = Self {
        input: MicroUsd(0),
        output: MicroUsd(0),
        request: MicroUsd(0),
    };

    /// More than anybody can ask: no bound.
    pub const ANY: Self = Self {
        input: MicroUsd(u64::MAX),
        output: MicroUsd(u64::MAX),
        request: MicroUsd(u64::MAX),
    };

    /// What one request costs: input and output are added exactly and rounded up once. Saturates.
    #[must_use]
    pub fn cost(&self, input_tokens: u32, output_tokens: u32) -> MicroUsd {
        let tokens =
            u128::from(self.input.0) * u128::from(input_tokens) + u128::from(self.output.0) * u128::from(output_tokens);
        let total = tokens.div_ceil(TOKENS_PER_PRICE) + u128::from(self.request.0);
        MicroUsd(u64::try_from(total).unwrap_or(u64::MAX))
    }

    /// The most that a request may cost that used so many tokens: who got none pays no price per request either.
    #[must_use]
    pub fn due(&self, input_tokens: u32, output_tokens: u32) -> MicroUsd {
        match (input_tokens, output_tokens) {
            (0, 0) => MicroUsd(0),
            (input, output) => self.cost(input, output),
        }
    }

    /// Whether no part is above the same part of `cap`.
    #[must_use]
    pub fn within(&self, cap: &Self) -> bool {
        self.input <= cap.input && self.output <= cap.output && self.request <= cap.request
    }

    /// Whether nothing is asked.
    #[must_use]
    pub fn is_free(&self) -> bool {
        *self == Self::FREE
    }

    /// Each part the smaller of the two.
    #[must_use]
    pub fn at_most(&self, other: &Self) -> Self {
        Self {
            input: self.input.min(other.input),
            output: self.output.min(other.output),
            request: self.request.min(other.request),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nothing_is_due_for_nothing() {
        let price = Price {
            request: MicroUsd(7),
            ..Price::FREE
        };
        assert_eq!(
            (price.due(0, 0), price.due(1, 0), price.due(0, 1)),
            (MicroUsd(0), MicroUsd(7), MicroUsd(7))
        );
    }

    #[test]
    fn cost_rounds_up_once() {
        let price = |input, output, request| Price {
            input: MicroUsd(input),
            output: MicroUsd(output),
            request: MicroUsd(request),
        };
        for (price, input, output, cost) in [
            (price(0, 0, 0), 1_000, 1_000, 0),
            (price(1, 0, 0), 1, 0, 1),
            (price(1, 1, 0), 1, 1, 1),
            (price(1_000_000, 0, 0), 7, 0, 7),
            (price(150_000, 600_000, 10), 1_000, 500, 460),
            (price(1, 0, 0), 1_000_000, 0, 1),
            (price(1, 0, 0), 1_000_001, 0, 2),
            (price(u64::MAX, u64::MAX, u64::MAX), u32::MAX, u32::MAX, u64::MAX),
        ] {
            assert_eq!(price.cost(input, output), MicroUsd(cost), "{price:?} {input} {output}");
        }
    }

    #[test]
    fn dollars_read_as_dollars() {
        for (amount, text) in [
            (0, "$0"),
            (250_000, "$0.25"),
            (7, "$0.000007"),
            (1_500_000, "$1.50"),
            (100_000, "$0.10"),
        ] {
            assert_eq!(MicroUsd(amount).to_string(), text);
        }
    }
}
