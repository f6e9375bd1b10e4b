//! Several orders placed in one transaction: what is loaded for all of them, and what each leaves for the next.

use super::{Offer, Placement, PlacementRequest};
use crate::ports::{
    CouponHolding, IdempotencyKey, IdempotencyRecord, KeyedRequest, NewOrderIds, PaymentEvent, PaymentRecord,
    PointEntry, ProductForSale, StoredAnswer, Versioned,
};
use crate::{
    IssuedCoupon, IssuedCouponId, Order, PointAccount, ProductId, Stock, StockError, Timestamp, UserId,
};
use std::collections::BTreeMap;

/// What must be there to decide about one order.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PlacingNeeds {
    /// The buyer.
    pub user_id: UserId,
    /// The products, ascending, each once.
    pub product_ids: Vec<ProductId>,
    /// Points are to be spent: the buyer's are locked.
    pub points: bool,
    /// The coupon that was named.
    pub issued_coupon_id: Option<IssuedCouponId>,
    /// The Idempotency-Key, to be taken.
    pub key: Option<KeyedRequest>,
}

/// What an Idempotency-Key stands for at this moment.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum KeyState {
    /// Nobody has it, and nobody else can take it before this transaction ends.
    Free,
    /// Another transaction is taking it.
    BeingTaken,
    /// It was taken for an order.
    Known(IdempotencyRecord),
}

/// What is there for a batch of orders: read and locked in one transaction. Each order that is decided takes from it
/// ([`Placing::take`]), so that the next one sees what is left, as it would alone.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Placing {
    /// The transaction's moment, by the database's clock.
    pub now: Timestamp,
    /// Names this database among all that use the same gateway (see
    /// [`GatewayOrderRef::new`](crate::GatewayOrderRef::new)).
    pub installation: String,
    /// Ids for as many orders as were asked for, in that order. They are not given out again.
    pub ids: Vec<NewOrderIds>,
    /// The products that exist, each one's stock locked.
    pub products: BTreeMap<ProductId, ProductForSale>,
    /// The points of buyers who spend some, locked; a buyer without an account has one with nothing in it.
    pub points: BTreeMap<UserId, PointAccount>,
    /// The coupons that exist, of those named; not locked but versioned.
    pub coupons: BTreeMap<IssuedCouponId, Versioned<CouponHolding>>,
    /// Every key of the batch.
    pub keys: BTreeMap<IdempotencyKey, KeyState>,
}

impl Placing {
    /// What is left now for one order.
    pub fn offer(
        &self,
        ids: NewOrderIds,
        request: &PlacementRequest,
        coupon: Option<IssuedCouponId>,
    ) -> Offer {
        let wanted = request.lines.iter().filter_map(|(id, _)| self.products.get(&id));
        Offer {
            order_id: ids.order_id,
            payment_id: ids.payment_id,
            products: wanted.cloned().collect(),
            points: self.points.get(&request.user_id).copied().filter(|_| request.use_point.is_positive()),
            coupon: coupon.and_then(|id| self.coupons.get(&id)).cloned(),
            now: self.now,
        }
    }

    /// Takes what an order was decided to take.
    ///
    /// # Errors
    /// [`StockError`] when the placement was not decided upon this offer; then nothing is taken.
    pub fn take(&mut self, placement: &Placement) -> Result<(), StockError> {
        let mut left: Vec<(ProductId, Stock)> = Vec::with_capacity(placement.order.items().len());
        for item in placement.order.items() {
            let product = self.products.get(&item.product_id).ok_or(StockError::OutOfStock)?;
            left.push((item.product_id, product.stock.decrease(i64::from(item.quantity.get()))?));
        }
        for (id, stock) in left {
            if let Some(product) = self.products.get_mut(&id) {
                product.stock = stock;
            }
        }
        if let Some(account) = placement.points {
            self.points.insert(account.user_id(), account);
        }
        if let Some(used) = placement.coupon
            && let Some(holding) = self.coupons.get_mut(&used.value.id)
        {
            holding.value.issued = used.value;
        }
        Ok(())
    }
}

/// One order as TX1 stores it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NewOrder {
    /// The order; its items say what stock it takes.
    pub order: Order,
    /// Its payment.
    pub record: PaymentRecord,
    /// The keyed hash of the callback token, when something is on the card.
    pub callback_token_hash: Option<[u8; 32]>,
    /// The first look at the payment, when something is on the card.
    pub check_at: Option<Timestamp>,
    /// The first rows of the payment's history, oldest first.
    pub history: Vec<PaymentEvent>,
    /// The points it spends, with the account after it.
    pub points: Option<PointEntry>,
    /// The coupon it uses, and the version it must still have.
    pub coupon: Option<Versioned<IssuedCoupon>>,
    /// The Idempotency-Key that it takes, and the answer that it gives from now on, when there is one already.
    pub key: Option<(KeyedRequest, Option<StoredAnswer>)>,
}
