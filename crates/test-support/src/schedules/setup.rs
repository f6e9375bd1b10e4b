//! The rows that a schedule works on. They are its own, so that many schedules can run in one database.

use crate::contract::world::{Ask, keyed, try_decided};
use domain::placement::{NewOrder, Placing};
use domain::ports::{
    CommitError, KeyedRequest, NewOrderIds, PaymentEvent, PointEntry, PointEntryKind, Store, StoreError,
    StoreTx, Versioned,
};
use domain::settlement::{Case, Changes};
use domain::{CouponId, Discount, GatewayKey, IssuedCouponId, Money, Payment, ProductId, Stock, UserId};
use std::sync::Mutex;
use std::time::Duration;

pub(super) const HOUR: Duration = Duration::from_secs(3600);

/// What the rows of one run are.
pub(super) struct Rows {
    /// Distinguishes this run's buyers, keys and leases from all others in the same database.
    pub(super) unique: i64,
    pub(super) products: [ProductId; 2],
    pub(super) buyers: [UserId; 3],
    pub(super) coupon: CouponId,
    pub(super) issued: IssuedCouponId,
    /// Of the setup, and of what was opened since.
    orders: Mutex<Vec<NewOrderIds>>,
}

fn counted_round<T: Copy>(items: &[T], at: usize) -> Option<T> {
    items.get(at.checked_rem(items.len())?).copied()
}

impl Rows {
    pub(super) fn product(&self, at: usize) -> ProductId {
        if at.is_multiple_of(2) { self.products[0] } else { self.products[1] }
    }

    pub(super) fn buyer(&self, at: usize) -> UserId {
        counted_round(&self.buyers, at).unwrap_or(self.buyers[0])
    }

    pub(super) fn order(&self, at: usize) -> Option<NewOrderIds> {
        counted_round(&self.orders.lock().ok()?, at)
    }

    pub(super) fn all_orders(&self) -> Vec<NewOrderIds> {
        self.orders.lock().map(|orders| orders.clone()).unwrap_or_default()
    }

    pub(super) fn add_orders(&self, ids: &[NewOrderIds]) {
        if let Ok(mut orders) = self.orders.lock() {
            orders.extend(ids);
        }
    }

    /// A gateway key of this run.
    pub(super) fn key(&self, number: usize) -> Option<GatewayKey> {
        GatewayKey::new(format!("{}K{number}", self.key_prefix())).ok()
    }

    /// Stands before every gateway key of this run.
    pub(super) fn key_prefix(&self) -> String {
        format!("{}.", self.unique)
    }

    /// An Idempotency-Key of the first buyer.
    pub(super) fn idempotency(&self, number: usize) -> KeyedRequest {
        keyed(self.buyers[0], &format!("key{number}"))
    }

    /// The name of a claim.
    pub(super) fn lease(&self, number: usize) -> i64 {
        super::normal::LEASES + self.unique * 1000 + i64::try_from(number).unwrap_or_default()
    }

    /// Two products; buyers with 100, 0 and no points; a coupon of the first one's; and three card payments: PENDING and
    /// due; IN_PROGRESS with a request that may be under way, points, the coupon and a key; IN_PROGRESS with the gateway's
    /// key K0, to be looked at in an hour.
    pub(super) async fn make(store: &dyn Store, unique: i64) -> Result<Self, StoreError> {
        let buyer = |number| UserId::new(unique * 10 + number).map_err(|error| other(&error));
        let buyers = [buyer(1)?, buyer(2)?, buyer(3)?];
        let tx = store.begin("setup").await?;
        let products = [product(&*tx, 1000, 3).await?, product(&*tx, 700, 5).await?];
        let coupon = tx.insert_coupon("coupon", Discount::Rate(10), None).await?;
        let issued = tx.insert_issued_coupon(coupon.id, buyers[0]).await?;
        let issued = issued.ok_or_else(|| other(&"the coupon is there already"))?;
        let account = tx.lock_points(buyers[0]).await?;
        let amount = Money::new(100).map_err(|error| other(&error))?;
        let account = account.charge(amount).map_err(|error| other(&error))?;
        let charge = PointEntry { account, kind: PointEntryKind::Charge, amount, payment_id: None };
        tx.save_points(&charge).await?;
        tx.lock_points(buyers[1]).await?;
        committed(tx).await?;
        let rows =
            Self { unique, products, buyers, coupon: coupon.id, issued: issued.id, orders: Mutex::default() };
        rows.place(store).await?;
        Ok(rows)
    }

    async fn place(&self, store: &dyn Store) -> Result<(), StoreError> {
        let plain = |buyer, product| Ask { user: self.buyer(buyer), ..Ask::of(product) };
        let asks = [
            plain(0, self.products[0]),
            Ask {
                points: 40,
                coupon: Some(self.issued),
                key: Some(self.idempotency(0)),
                lines: vec![(self.products[0], 1), (self.products[1], 1)],
                ..plain(0, self.products[0])
            },
            plain(1, self.products[1]),
        ];
        let needs: Vec<_> = asks.iter().map(Ask::needs).collect();
        let (tx, mut placing) = store.open_placing(&needs).await?;
        let mut orders = Vec::new();
        for (at, ask) in asks.iter().enumerate() {
            let order = timed(&mut placing, at, ask, at == 1, at != 0).map_err(|error| other(&error))?;
            orders.push(order);
        }
        tx.store_orders(&orders).await?;
        committed(tx).await?;
        self.add_orders(&placing.ids);
        let ids: Vec<_> = placing.ids.iter().map(|ids| ids.payment_id).collect();
        store.start_payments(ids.get(1..).unwrap_or_default()).await?;
        let third = ids.get(2).copied().ok_or_else(|| other(&"three orders"))?;
        let need = domain::settlement::SettlingNeeds { payment_id: third, keys: vec![], goods: false };
        let (tx, settling) = store.open_settling(&[need]).await?;
        let keyed = settling
            .cases
            .get(&third)
            .and_then(|case| moved(case, |payment| payment.update_external_payment_key(self.key(0)?).ok()));
        tx.store_changes(&keyed.into_iter().collect::<Vec<_>>()).await?;
        committed(tx).await
    }
}

/// An order whose deadline and first look are an hour away, this way or that: no run takes so long.
pub(super) fn timed(
    placing: &mut Placing,
    at: usize,
    ask: &Ask,
    sending: bool,
    young: bool,
) -> Result<NewOrder, domain::placement::PlacementError> {
    let now = placing.now;
    let away = |ahead| if ahead { now + HOUR } else { now - HOUR };
    let mut order = try_decided(placing, at, ask)?;
    order.record.send_deadline = away(sending);
    order.check_at = order.check_at.map(|_| away(young));
    Ok(order)
}

/// The payment as `next` makes it, with a row of history; none when it does not take that.
pub(super) fn moved(case: &Case, next: impl FnOnce(Payment) -> Option<Payment>) -> Option<Changes> {
    let before = &case.record.payment;
    let value = next(before.clone())?;
    let event = PaymentEvent {
        from: Some(before.status()),
        to: value.status(),
        cause: domain::ports::Cause::Reconciler,
        reason: None,
        key: value.key().cloned(),
    };
    let payment = Some(Versioned { version: case.record.version, value });
    Some(Changes { payment, history: vec![event], ..Changes::none(before.id(), before.order_id()) })
}

async fn product(tx: &dyn StoreTx, price: i64, pieces: i64) -> Result<ProductId, StoreError> {
    let price = Money::new(price).map_err(|error| other(&error))?;
    let stock = Stock::new(pieces).map_err(|error| other(&error))?;
    tx.insert_product("product", price, stock).await
}

async fn committed(tx: Box<dyn StoreTx>) -> Result<(), StoreError> {
    tx.commit().await.map_err(|error| match error {
        CommitError::RolledBack(error) => error,
        CommitError::OutcomeUnknown => other(&error),
    })
}

fn other(error: &dyn std::fmt::Display) -> StoreError {
    StoreError::Other { what: format!("setup: {error}") }
}
