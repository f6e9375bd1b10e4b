//! What a batch is about to store must fit what it loaded, as if its members had come one after the other; and nobody
//! waits while later ones are served. The database would refuse some of this, and the batch be done again one by one: no
//! harm, and the reason for it never seen.

use crate::draws::Life;
use crate::world::{World, lock};
use domain::placement::{KeyState, NewOrder, Placing};
use domain::ports::PointEntry;
use domain::settlement::{Changes, Settling};
use domain::{PointAccount, UserId};
use std::collections::{BTreeMap, BTreeSet};
use tokio::time::Instant;

/// The points of buyers as the members of a batch leave them, one after the other.
struct Running<'a>(BTreeMap<UserId, &'a PointAccount>);

impl<'a> Running<'a> {
    fn of(loaded: &'a BTreeMap<UserId, PointAccount>) -> Self {
        Self(loaded.iter().map(|(user, account)| (*user, account)).collect())
    }

    /// Each movement must start from where the one before it left the account. `sign`: -1 takes, 1 gives.
    fn moves(&mut self, entry: &'a PointEntry, sign: i64) -> Result<(), String> {
        let user = entry.account.user_id();
        let before = self.0.insert(user, &entry.account).map(|account| account.balance().won());
        let wanted = before.map(|before| before + sign * entry.amount.won());
        let after = entry.account.balance().won();
        if wanted == Some(after) && after >= 0 {
            Ok(())
        } else {
            Err(format!("buyer {user}: {before:?} points, {} moved, {after} left", entry.amount))
        }
    }
}

/// I3, I4, I5, I13: orders take no more than what was loaded, each from what the ones before it left.
pub fn fits_placing(world: &World, placing: &Placing, orders: &[NewOrder]) {
    let mut stock: BTreeMap<_, _> =
        placing.products.iter().map(|(id, product)| (*id, product.stock.quantity())).collect();
    let mut points = Running::of(&placing.points);
    let (mut coupons, mut keys) = (BTreeSet::new(), BTreeSet::new());
    for new in orders {
        let order = new.order.id().get();
        let violation = |invariant, text: String| world.violation(invariant, order, text);
        for item in new.order.items() {
            let left = stock.entry(item.product_id).or_default();
            *left -= i64::from(item.quantity.get());
            if *left < 0 {
                violation("I3", format!("a batch takes more of product {} than there is", item.product_id));
            }
        }
        if let Some(Err(text)) = new.points.as_ref().map(|entry| points.moves(entry, -1)) {
            violation("I5", text);
        }
        if let Some(coupon) = &new.coupon {
            let loaded = placing.coupons.get(&coupon.value.id).map(|holding| holding.version);
            if loaded != Some(coupon.version) || !coupons.insert(coupon.value.id) {
                violation("I4", format!("coupon {:?} is used twice in one batch", coupon.value.id));
            }
        }
        if let Some((request, _)) = &new.key {
            let free = matches!(placing.keys.get(&request.key), Some(KeyState::Free));
            if !free || !keys.insert(&request.key) {
                violation("I13", format!("the key {:?} is taken twice in one batch", request.key.key));
            }
        }
    }
}

/// I4, I5, I10: each payment is stored once, at the version that was loaded, and points go back one after the other.
pub fn fits_settling(world: &World, settling: &Settling, changes: &[Changes]) {
    let mut points = Running::of(&settling.shared.points);
    let mut seen = BTreeSet::new();
    for change in changes {
        let violation = |invariant, text: String| world.violation(invariant, change.order_id.get(), text);
        let case = settling.cases.get(&change.payment_id);
        if !seen.insert(change.payment_id) || case.is_none() {
            violation("I10", "stored twice in one batch, or without being loaded".to_owned());
        }
        let version = case.map(|case| case.record.version);
        if change.payment.as_ref().is_some_and(|payment| Some(payment.version) != version) {
            violation("I10", "stored at another version than was loaded".to_owned());
        }
        if let Some(Err(text)) = change.points_back.as_ref().map(|entry| points.moves(entry, 1)) {
            violation("I5", text);
        }
    }
}

/// A batch of orders that was opened.
#[derive(Debug, Clone, Copy)]
struct Opened {
    at: Instant,
    /// The one of those that were served for the first time that came first.
    first: Option<u64>,
    /// The one that came last.
    last: u64,
}

/// The programs' queues of orders, as far as can be seen.
#[derive(Debug, Default)]
pub struct Queues {
    opened: BTreeMap<Life, Vec<Opened>>,
    /// Who came before a batch failed may have been in it, and be served once more.
    excused: BTreeMap<Life, u64>,
}

impl Queues {
    /// One could not be stored; so many numbers were drawn before.
    pub fn failed(&mut self, life: Life, drawn: u64) {
        self.excused.insert(life, drawn);
    }
}

/// Fairness: of one program's orders, none is served after one that came later. `numbers`: those of a batch that was opened
/// `at` this moment. Two that are opened at the same one may share what waits in any way.
pub fn in_order_of_arrival(world: &World, life: Life, at: Instant, numbers: &[u64]) {
    let members: Vec<(u64, bool)> = {
        let mut draws = lock(&world.draws);
        let found = |number: &u64| draws.get(*number).map(|draw| (draw.nth, draw.tried));
        let members = numbers.iter().filter_map(found).collect();
        numbers.iter().for_each(|number| draws.tried(*number));
        members
    };
    let Some(last) = members.iter().map(|(came, _)| *came).max() else { return };
    let unfair = {
        let mut queues = lock(&world.queues);
        let excused = queues.excused.get(&life).copied().unwrap_or_default();
        let first =
            members.iter().filter(|(came, tried)| !tried && *came > excused).map(|(came, _)| *came).min();
        let mine = Opened { at, first, last };
        let others = queues.opened.entry(life).or_default();
        let unfair = others.iter().any(|other| {
            let (earlier, later) = if other.at < at { (other, &mine) } else { (&mine, other) };
            other.at != at && later.first.is_some_and(|first| first < earlier.last)
        });
        others.push(mine);
        unfair || !members.is_sorted()
    };
    if unfair {
        world.violation("fairness", 0, "an order waited while one that came later was served");
    }
}
