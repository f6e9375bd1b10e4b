//! Orders that look like a repetition although they bear no Idempotency-Key (F04): two orders are legal then, and a
//! client that sends its request twice buys twice. Operators see it in `possible_duplicate_orders_total`.
//!
//! Remembered in this process only, for one to two minutes. Deliberately absent: any effect on the order.

use domain::UserId;
use std::collections::HashSet;
use std::sync::{Mutex, PoisonError};
use std::time::Duration;
use tokio::time::Instant;

/// An order is remembered for at least so long.
const REMEMBERED: Duration = Duration::from_mins(1);
/// The most orders of one period; further ones are not remembered.
const MOST: usize = 100_000;

/// Who asked for what: the fingerprint bears no card number.
type Asked = (UserId, [u8; 32]);

#[derive(Default)]
struct Periods {
    began: Option<Instant>,
    now: HashSet<Asked>,
    before: HashSet<Asked>,
}

/// The orders without a key of the last minute or two.
#[derive(Default)]
pub(crate) struct Repeats(Mutex<Periods>);

impl Repeats {
    /// Remembers an order; true when the same buyer has asked for the same a short time ago.
    pub(crate) fn is_repeated(&self, buyer: UserId, fingerprint: [u8; 32], now: Instant) -> bool {
        let mut periods = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let began = *periods.began.get_or_insert(now);
        let age = now.saturating_duration_since(began);
        if age >= 2 * REMEMBERED {
            *periods = Periods { began: Some(now), ..Periods::default() };
        } else if age >= REMEMBERED {
            periods.before = std::mem::take(&mut periods.now);
            periods.began = Some(began + REMEMBERED);
        }
        let asked = (buyer, fingerprint);
        let known = periods.before.contains(&asked) || periods.now.contains(&asked);
        if !known && periods.now.len() < MOST {
            periods.now.insert(asked);
        }
        known
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_same_order_of_the_same_buyer_is_a_repetition_for_a_minute_at_least() {
        let repeats = Repeats::default();
        let (one, two) = (UserId::new(1).unwrap(), UserId::new(2).unwrap());
        let began = Instant::now();
        let after = |seconds| began + Duration::from_secs(seconds);
        assert!(!repeats.is_repeated(one, [1; 32], began));
        assert!(!repeats.is_repeated(two, [1; 32], began), "another buyer");
        assert!(!repeats.is_repeated(one, [2; 32], after(59)), "another order");
        assert!(repeats.is_repeated(one, [1; 32], after(59)));
        assert!(repeats.is_repeated(one, [2; 32], after(118)), "of the period before");
        assert!(!repeats.is_repeated(one, [1; 32], after(121)), "long ago");
        assert!(!repeats.is_repeated(one, [1; 32], after(1000)));
    }

    #[test]
    fn memory_has_a_limit() {
        let repeats = Repeats::default();
        let began = Instant::now();
        for number in 1..=2 * i64::try_from(MOST).unwrap() {
            repeats.is_repeated(UserId::new(number).unwrap(), [0; 32], began);
        }
        assert_eq!(repeats.0.lock().unwrap().now.len(), MOST);
    }
}
