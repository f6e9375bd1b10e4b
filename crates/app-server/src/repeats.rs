//! Orders that look like a repetition although they bear no Idempotency-Key (F04): two orders are legal then, and a
//! client that sends its request twice buys twice. Operators see it in `possible_duplicate_orders_total`.
//!
//! A hint for a counter, so it costs next to nothing: a table of fixed size without locks, in this process only. An order is
//! remembered for one to two minutes, unless another one takes its place. Deliberately absent: any effect on the order.

use application::PlaceOrder;
use std::hash::{DefaultHasher, Hash, Hasher};
use std::sync::atomic::{AtomicU64, Ordering};
use tokio::time::Instant;

/// Places of the table; 512 KiB.
const PLACES: usize = 1 << 16;
/// The low bits of a place: the minute; the rest: the order's hash.
const MINUTE_BITS: u32 = 16;
const MINUTE: u64 = (1 << MINUTE_BITS) - 1;

/// The orders without a key of the last minute or two.
pub(crate) struct Repeats {
    began: Instant,
    places: Box<[AtomicU64]>,
}

impl Default for Repeats {
    fn default() -> Self {
        let places = std::iter::repeat_with(AtomicU64::default).take(PLACES).collect();
        Self { began: Instant::now(), places }
    }
}

impl Repeats {
    /// Remembers an order; true when the same buyer has asked for the same a short time ago.
    pub(crate) fn is_repeated(&self, order: &PlaceOrder, now: Instant) -> bool {
        // The first minute is 1, so that an empty place is of no minute.
        let minute = (now.saturating_duration_since(self.began).as_secs() / 60 + 1) & MINUTE;
        let hash = hash(order);
        let at = usize::try_from(hash).unwrap_or_default() % PLACES;
        let Some(place) = self.places.get(at) else { return false };
        let before = place.swap(hash & !MINUTE | minute, Ordering::Relaxed);
        before & !MINUTE == hash & !MINUTE && minute.wrapping_sub(before & MINUTE) <= 1
    }
}

/// Of all that was asked for but the card.
fn hash(order: &PlaceOrder) -> u64 {
    let mut hasher = DefaultHasher::new();
    order.user_id.hash(&mut hasher);
    for (product_id, quantity) in order.lines.iter() {
        (product_id, quantity.get()).hash(&mut hasher);
    }
    (order.use_point.won(), order.issued_coupon_id).hash(&mut hasher);
    hasher.finish()
}

#[cfg(test)]
mod tests {
    use super::*;
    use domain::placement::OrderLines;
    use domain::{Money, ProductId, Quantity, UserId};
    use std::time::Duration;

    fn order(buyer: i64, product: i64) -> PlaceOrder {
        let line = (ProductId::new(product).unwrap(), Quantity::new(1).unwrap());
        PlaceOrder {
            user_id: UserId::new(buyer).unwrap(),
            lines: OrderLines::new([line]).unwrap(),
            use_point: Money::ZERO,
            issued_coupon_id: None,
            card: None,
            idempotency: None,
            placed: None,
        }
    }

    #[test]
    fn the_same_order_of_the_same_buyer_is_a_repetition_for_a_minute_at_least() {
        let repeats = Repeats::default();
        let after = |seconds| repeats.began + Duration::from_secs(seconds);
        assert!(!repeats.is_repeated(&order(1, 1), after(0)));
        assert!(!repeats.is_repeated(&order(2, 1), after(0)), "another buyer");
        assert!(!repeats.is_repeated(&order(1, 2), after(59)), "another order");
        assert!(repeats.is_repeated(&order(1, 1), after(59)));
        assert!(repeats.is_repeated(&order(1, 2), after(118)), "of the minute before");
        assert!(!repeats.is_repeated(&order(1, 1), after(240)), "long ago");
        assert!(!repeats.is_repeated(&order(2, 1), after(1000)));
    }
}
